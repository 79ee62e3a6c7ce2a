-- The library `bit` of Redis: LuaBitOp 1.0.2 (https://bitop.luajit.org). Numbers are taken modulo 2^32 and come back signed. Lua
-- 5.1 has no operators on bits, so a function of the host computes.
return function(helpers, charge, complain)
    local compute, tonumber, select, format = helpers.bit, tonumber, select, string.format
    local type = type
    local bit = {}

    local function checked(name, place, ...)
        local value = select(place, ...)
        local number = tonumber(value)
        if number then return number end
        local kind = place > select('#', ...) and 'no value' or type(value)
        complain(format("bad argument #%d to '%s' (number expected, got %s)", place, name, kind))
    end

    for _, name in ipairs { 'band', 'bor', 'bxor' } do
        bit[name] = function(...)
            local value = compute('tobit', checked(name, 1, ...), 0)
            for place = 2, select('#', ...) do value = compute(name, value, checked(name, place, ...)) end
            return value
        end
    end

    for _, name in ipairs { 'lshift', 'rshift', 'arshift', 'rol', 'ror' } do
        bit[name] = function(...) return compute(name, checked(name, 1, ...), checked(name, 2, ...)) end
    end

    for _, name in ipairs { 'tobit', 'bnot', 'bswap' } do
        bit[name] = function(...) return compute(name, checked(name, 1, ...), 0) end
    end

    function bit.tohex(...)
        local value, digits = compute('unsigned', checked('tohex', 1, ...), 0), 8
        if select('#', ...) > 1 then digits = compute('tobit', checked('tohex', 2, ...), 0) end
        local pattern = digits < 0 and '%08X' or '%08x'
        if digits < 0 then digits = -digits end
        if digits > 8 or digits < 0 then digits = 8 end
        return string.sub(format(pattern, value), 9 - digits)
    end

    return bit
end
