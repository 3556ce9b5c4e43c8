# Five connections of libcurl over HTTP/2, each idle after one request: nothing is read from them.
require "ethon"

handles = Array.new(5) do
  Ethon::Easy.new(url: "#{ENV.fetch("BUS_URL")}/health", cainfo: ENV.fetch("BUS_CA"), http_version: :httpv2_tls).tap do |easy|
    easy.perform
    abort "libcurl got #{easy.response_code}" unless easy.response_code == 200
  end
end
puts "idle #{handles.size}"
$stdout.flush
$stdin.read
