# libcurl, over HTTP/1.1 and HTTP/2: large bodies that are refused before they are read.
require "ethon"

SIZES = [1_200_000, 7_000_000].freeze
CASES = [
  [:post, "/topics/widgets", nil, 401],
  [:post, "/no/such/place", "demo:", 404],
  [:put, "/topics", "demo:", 405],
  [:post, "/topics/widgets", "demo:", 413]
].freeze

answers = 0
%i[httpv1_1 httpv2_tls].each do |version|
  SIZES.product(CASES, [true, false]).each do |size, (verb, path, userpwd, expected), waits|
    3.times do
      easy = Ethon::Easy.new
      easy.http_request(ENV.fetch("BUS_URL") + path, verb, body: "x" * size, userpwd: userpwd,
        cainfo: ENV.fetch("BUS_CA"), http_version: version, headers: waits ? {} : { "Expect" => "" })
      easy.perform
      told = [easy.return_code, easy.response_code, easy.response_body.to_s.empty?]
      abort "#{version} #{verb} #{path} #{size}: #{told}" unless told == [:ok, expected, false]
      answers += 1
    end
  end
end
puts "answers #{answers}"
