# `ruby libraries.rb LIBRARY plain|cluster PORT PREFIX`: a client library in Ruby does SET, GET, INCR, HSET, HGET, a pipeline.
PIPED = 10
NAME, MODE, PORT, PREFIX = ARGV

def expect(wanted, got)
  raise "wanted #{wanted.inspect}, got #{got.inspect}" unless wanted == got
end

def redis
  require "redis"
  client = MODE == "cluster" ? Redis.new(cluster: ["redis://127.0.0.1:#{PORT}"]) : Redis.new(port: PORT)
  client.set("#{PREFIX}:string", "value")
  expect("value", client.get("#{PREFIX}:string"))
  expect(1, client.incr("#{PREFIX}:counter"))
  expect(2, client.incr("#{PREFIX}:counter"))
  client.hset("#{PREFIX}:hash", "field", "value")
  expect("value", client.hget("#{PREFIX}:hash", "field"))
  expect([*1..PIPED], client.pipelined { |pipeline| PIPED.times { pipeline.incr("#{PREFIX}:piped") } })
end

# The commands are sent without waiting for answers, which come in order.
def em_redis
  require "em-redis"
  answers = []
  EM.run do
    client = EM::Protocols::Redis.connect(host: "127.0.0.1", port: PORT.to_i)
    client.errback { |error| raise error }
    client.set("#{PREFIX}:string", "value")
    client.get("#{PREFIX}:string") { |value| answers << value }
    2.times { client.incr("#{PREFIX}:counter") { |value| answers << value } }
    client.hset("#{PREFIX}:hash", "field", "value")
    client.hget("#{PREFIX}:hash", "field") { |value| answers << value }
    PIPED.times { client.incr("#{PREFIX}:piped") { |value| answers << value; EM.stop if value == PIPED } }
  end
  expect(["value", 1, 2, "value", *1..PIPED], answers)
end

send(NAME)
puts "ok piped"
