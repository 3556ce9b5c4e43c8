# What a team's Ruby publishers, subscribers and scripts do, unchanged.
require "minitest/autorun"
require "timeout"
require_relative "ruby_client"
require_relative "ruby_drain"

class RubyClientsTest < Minitest::Test
  GENERATIONS = %i[early middle late].freeze

  def setup
    @root = RubyClient.new(ENV.fetch("BUS_ROOT"))
    @tokens = []
  end

  def teardown
    @tokens.each { |token| @root.token_del(token) }
    @root.monitor_topics.each { |topic| @root.delete_topic(topic["name"]) }
  end

  # A client with a token of its own, and that token.
  def client(name, generation: :late)
    token = @root.token_add(name)
    @tokens << token
    [RubyClient.new(token, generation: generation), token]
  end

  def with_drain(uuid)
    drain = RubyDrain.new(uuid)
    yield drain
  ensure
    drain&.stop
  end

  GENERATIONS.each do |generation|
    define_method("test_#{generation}_events_reach_the_drain") do
      publisher, = client("publisher", generation: generation)
      subscriber, token = client("subscriber", generation: generation)
      with_drain("s3cr3t") do |drain|
        publisher.publish(:noop, "widgets", "https://a.example/0")
        subscriber.subscribe(%w[widgets], drain.url, uuid: "s3cr3t", timeout: 0, max: 10)
        %i[created updated deleted noop].each_with_index do |event, n|
          publisher.publish(event, "widgets", "https://a.example/#{n}")
        end
        publisher.publish(:updated, "widgets", "https://a.example/4", t: 1_764_272_000_000)
        events = drain.take(5)
        assert_equal %w[create update delete noop update], events.map { |event| event["type"] }
        assert_equal (0..4).map { |n| "https://a.example/#{n}" }, events.map { |event| event["url"] }
        assert_equal 1_764_272_000_000, events.last["t"]
        assert events.none? { |event| event.key?("data") }
        topic = publisher.monitor_topics.find { |row| row["name"] == "widgets" }
        assert_equal 6, topic["events"]
        row = subscriber.monitor_subscriptions.find { |it| it["subscriber"] == token }
        assert_equal [%w[widgets], drain.url], row.values_at("topics", "callback")
        subscriber.unsubscribe("widgets")
        subscriber.unsubscribe_all
      end
      publisher.delete_topic("widgets")
    end
  end

  def test_data_arrives_as_it_was_published
    publisher, = client("publisher")
    subscriber, = client("subscriber")
    with_drain("u") do |drain|
      publisher.publish(:noop, "widgets", "https://a.example/0")
      subscriber.subscribe(%w[widgets], drain.url, uuid: "u", timeout: 0)
      data = { "n" => 1, "list" => [nil, true, 1.5], "text" => "ü" }
      publisher.publish(:created, "widgets", "https://a.example/1", data: data)
      assert_equal data, drain.take(1).first["data"]
    end
  end

  def test_a_float_and_a_time_of_seconds_are_times
    publisher, = client("publisher", generation: :early)
    publisher.publish(:updated, "widgets", "https://a.example/1", t: Time.now.to_i * 1e3)
    publisher.publish(:updated, "widgets", "https://a.example/1", t: 1_764_272_000)
  end

  def test_a_topic_of_64_characters
    publisher, = client("publisher")
    publisher.publish(:created, "a" * 64, "https://a.example/1")
  end

  # `rtm sub add` of a bus that is known by name has no token, and so no uuid.
  def test_the_command_line_subscribes_with_null_and_with_a_user_name
    publisher, = client("publisher")
    publisher.publish(:noop, "widgets", "https://a.example/0")
    subscriber, token = client("subscriber")
    with_drain("demo") do |drain|
      callback = drain.url.sub("https://", "https://demo@")
      subscriber.subscribe(%w[widgets], callback, timeout: nil, max: nil, uuid: nil)
      row = subscriber.monitor_subscriptions.find { |it| it["subscriber"] == token }
      assert_equal ["demo", drain.url], row.values_at("uuid", "callback")
      publisher.publish(:created, "widgets", "https://a.example/1")
      assert_equal "https://a.example/1", drain.take(1).first["url"]
    end
  end

  def test_tokens_are_listed_with_those_of_the_settings
    assert_equal "demo", @root.token_list.fetch("demo")
    _, token = client("billing")
    assert_equal "billing", @root.token_list.fetch(token)
  end

  def test_a_token_with_a_long_name_or_two_hyphens_can_be_given
    ["n" * 64, "a--b"].each do |name|
      assert_equal "given", @root.token_add(name, "given")
      assert_equal name, @root.token_list.fetch("given")
      @root.token_del("given")
    end
  end

  def test_a_subscription_goes_with_its_token
    publisher, = client("publisher")
    publisher.publish(:noop, "widgets", "https://a.example/0")
    subscriber, token = client("subscriber")
    subscriber.subscribe(%w[widgets], "https://a.example/events")
    @root.token_del(token)
    assert @root.monitor_subscriptions.none? { |row| row["subscriber"] == token }
  end

  # They put a slash before the path, whether or not the address of the bus ends with one.
  def test_an_address_with_a_slash_at_its_end
    token = @root.token_add("elixir")
    @tokens << token
    options = { ssl_verifypeer: false, ssl_verifyhost: 0, userpwd: "#{token}:" }
    base = ENV.fetch("BUS_URL") + "/"
    body = { type: "noop", url: "https://a.example/", timestamp: 1_764_272_000, topic: "widgets" }
    publish = Typhoeus.post("#{base}/topics/widgets", **options, body: Oj.dump(body, mode: :compat))
    assert_equal 204, publish.code, publish.body
    deleted = Typhoeus::Request.new("#{base}/topic/widgets", **options, method: :delete, body: "null").run
    assert_equal 204, deleted.code, deleted.body
  end
end
