-- The library `math` for scripts. `math.random` is that of Redis: a run that begins again gets the same numbers.
--
-- Source: redis 7.0 rand.c (drand48).
local tools = ...
local copy, complain = tools.copy, tools.complain
local type, tonumber, select, format, floor = type, tonumber, select, string.format, math.floor

local maths = copy(math)
local random_high, random_low = 0, 0

local function seed(number)
    number = number % 4294967296
    random_high = floor(number / 256)
    random_low = (number % 256) * 65536 + 13070
end

local function random_fraction()
    local product = random_low * 15525485 + 11
    local low = product % 16777216
    random_high = (random_high * 15525485 + random_low * 1502 + floor(product / 16777216)) % 16777216
    random_low = low
    return (random_high * 128 + floor(low / 131072)) % 2147483647 / 2147483647
end

local function checked_number(value, index, name)
    local number = tonumber(value)
    if not number then
        local kind = value == nil and 'no value' or type(value)
        complain(format("bad argument #%d to '%s' (number expected, got %s)", index, name, kind))
    end
    return number
end

function maths.random(...)
    local count, fraction = select('#', ...), random_fraction()
    if count == 0 then return fraction end
    if count > 2 then complain('wrong number of arguments') end
    local low, high = 1, checked_number((...), 1, 'random')
    if count == 2 then low, high = high, checked_number((select(2, ...)), 2, 'random') end
    if low > high then complain(format("bad argument #%d to 'random' (interval is empty)", count)) end
    return floor(fraction * (high - low + 1)) + low
end

function maths.randomseed(value)
    local number = floor(checked_number(value, 1, 'randomseed'))
    seed(number - number == 0 and number or -2 ^ 31)
end

return maths, seed
