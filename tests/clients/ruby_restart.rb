# Publishes over a connection that then stays idle, as a Ruby process between two jobs; once a line
# comes on standard input, publishes again.
require_relative "ruby_client"

client = RubyClient.new(ENV.fetch("BUS_TOKEN"))
client.publish(:created, "widgets", "https://a.example/1")
puts "published"
$stdout.flush
$stdin.gets
client.publish(:created, "widgets", "https://a.example/2")
puts "published again"
