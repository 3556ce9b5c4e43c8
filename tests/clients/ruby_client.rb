# Sends what the Ruby clients of the original send, over the libraries that they use, and demands of
# the answers what they demand. What differs between their versions is a generation here:
#
#   :early    1.2   Net::HTTP, JSON of the standard library
#   :middle   2.x   Typhoeus (libcurl, HTTP/2), Oj
#   :late     3.2   the same, with `data` and tokens
require "faraday"
require "json"
require "oj"
require "typhoeus"
require "typhoeus/adapters/faraday"

class RubyClient
  class Refused < StandardError; end

  TYPES = { created: "create", updated: "update", deleted: "delete", noop: "noop" }.freeze

  def initialize(token, generation: :late, url: ENV.fetch("BUS_URL"), ca: ENV.fetch("BUS_CA"))
    @generation = generation
    @connection = Faraday.new(url, ssl: { verify: true, ca_file: ca }) do |f|
      f.request :retry, max: 2, interval: 100e-3, backoff_factor: 2
      f.request :basic_auth, token, "x"
      f.adapter(generation == :early ? :net_http : :typhoeus)
      f.options.timeout = f.options.open_timeout = 5
    end
    # Every command and every eager client begins with it.
    demand(@connection.get("/pulse"))
  end

  # Without a time they all send null.
  def publish(event, topic, url, t: nil, data: nil)
    payload = { "type" => TYPES.fetch(event), "url" => url, "timestamp" => t }
    payload["data"] = data unless data.nil?
    demand(post("/topics/#{topic}", dump(payload)))
  end

  def subscribe(topics, callback, **options)
    body = { "topics" => topics, "callback" => callback }
    options.each { |name, value| body[name.to_s] = value }
    demand(post("/subscription", dump(body)))
  end

  def unsubscribe(*topics)
    topics.each { |topic| demand(@connection.delete("/subscriber/topics/#{topic}")) }
  end

  def unsubscribe_all
    demand(@connection.delete("/subscriber"))
  end

  def delete_topic(topic)
    demand(@connection.delete("/topics/#{topic}"))
  end

  # The early ones name a type of a body that a GET does not have.
  def monitor_topics
    response = @connection.get("/topics") do |request|
      request.headers["Content-Type"] = "application/json" if @generation == :early
    end
    Oj.load(demand(response).body).map { |row| %w[name publisher events].to_h { |k| [k, row.fetch(k)] } }
  end

  def monitor_subscriptions
    rows = Oj.load(demand(@connection.get("/subscriptions")).body)
    required = %w[subscriber callback topics events]
    required += %w[uuid] if @generation == :late
    rows.each { |row| required.each { |name| row.fetch(name) } }
  end

  def token_add(name, token = nil)
    body = { "name" => name }
    body["token"] = token if token
    Oj.load(demand(post("/api_tokens", Oj.dump(body, mode: :compat))).body)["token"]
  end

  def token_del(token)
    demand(@connection.delete("/api_tokens/#{token}"))
  end

  # An empty body is nil here, which ends in a NoMethodError.
  def token_list
    body = demand(@connection.get("/api_tokens")).body
    Oj.load(body).each_with_object({}) { |row, all| all[row.fetch("token")] = row.fetch("name") }
  end

  private

  def post(path, body)
    @connection.post(path) do |request|
      request.headers["Content-Type"] = "application/json"
      request.body = body
    end
  end

  def dump(payload)
    @generation == :early ? payload.to_json : Oj.dump(payload, mode: :strict)
  end

  def demand(response)
    raise Refused, "#{response.status}: #{response.body}" unless response.success?

    response
  end
end
