# Receives as the original's drain does, behind a real Puma: the same demands on a request, in the same
# order, and the same answers.
require "base64"
require "json"
require "puma"
require "puma/minissl"
require "puma/server"
require "rack"

class RubyDrain
  attr_reader :url, :events

  def initialize(uuid)
    @uuid = uuid
    @events = Queue.new
    @server = Puma::Server.new(app)
    port = @server.add_ssl_listener("127.0.0.1", 0, context).addr[1]
    @server.run
    @url = "https://localhost:#{port}/events"
  end

  # So many events, in the order of their arrival.
  def take(count)
    Timeout.timeout(20) { Array.new(count) { @events.pop } }
  end

  def stop
    @server.stop(true)
  end

  private

  def context
    Puma::MiniSSL::Context.new.tap do |context|
      context.key = ENV.fetch("RECEIVER_KEY")
      context.cert = ENV.fetch("RECEIVER_CERT")
      context.verify_mode = Puma::MiniSSL::VERIFY_NONE
    end
  end

  def app
    drain = method(:receive)
    Rack::Builder.new { map("/events") { run drain } }.to_app
  end

  def receive(env)
    return answer(404) unless ["", "/"].include?(env["PATH_INFO"])
    return answer(405) unless env["REQUEST_METHOD"] == "POST"
    return answer(401) unless env["HTTP_AUTHORIZATION"]

    credentials = Base64.decode64(env["HTTP_AUTHORIZATION"].gsub(/^Basic /, ""))
    return answer(403) unless credentials.split(":").first == @uuid
    return answer(415) unless env["CONTENT_TYPE"] == "application/json"

    batch = JSON.parse(env["rack.input"].read)
    complete = batch.all? { |event| %w[t type topic url].all? { |name| event[name] } }
    return answer(400) unless complete && batch.all? { |event| event["t"].is_a?(Integer) }

    batch.each { |event| @events << event }
    answer(204)
  rescue JSON::ParserError
    answer(400)
  end

  def answer(status)
    [status, {}, []]
  end
end
