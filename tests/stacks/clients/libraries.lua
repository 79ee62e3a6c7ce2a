-- `lua5.1 libraries.lua redis plain PORT PREFIX`: redis-lua does SET, GET, INCR, HSET, HGET, a pipeline.
local PIPED = 10
local _, _, port, prefix = unpack(arg)

local client = require("redis").connect("127.0.0.1", tonumber(port))

local function expect(wanted, got)
    assert(wanted == got, "wanted " .. tostring(wanted) .. ", got " .. tostring(got))
end

client:set(prefix .. ":string", "value")
expect("value", client:get(prefix .. ":string"))
expect(1, client:incr(prefix .. ":counter"))
expect(2, client:incr(prefix .. ":counter"))
client:hset(prefix .. ":hash", "field", "value")
expect("value", client:hget(prefix .. ":hash", "field"))
local answers = client:pipeline(function(pipeline)
    for _ = 1, PIPED do pipeline:incr(prefix .. ":piped") end
end)
for place = 1, PIPED do expect(place, answers[place]) end
print("ok piped")
