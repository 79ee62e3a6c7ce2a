-- The library `cmsgpack` of Redis: lua-cmsgpack 0.4.0 by Salvatore Sanfilippo (https://github.com/antirez/lua-cmsgpack).
return function(helpers, charge, complain)
    local pack_double, unpack_double = helpers.pack_double, helpers.unpack_double
    local byte, sub, char, format = string.byte, string.sub, string.char, string.format
    local floor, huge, concat, unpack, select, type = math.floor, math.huge, table.concat, unpack, select, type
    local next, tonumber = next, tonumber
    local NESTING_MAX = 16

    local function big(value, size)
        local bytes = {}
        for index = size, 1, -1 do
            bytes[index] = value % 256
            value = floor(value / 256)
        end
        return char(unpack(bytes))
    end

    local function number_bytes(value)
        if value ~= floor(value) or value == huge or value == -huge or value >= 2 ^ 63 or value < -2 ^ 63 then
            local short = pack_double('f', false, value)
            if value ~= value or unpack_double('f', false, short) ~= value then return '\203' .. pack_double('d', false, value) end
            return '\202' .. short
        end
        if value >= 0 then
            if value < 128 then return char(value) end
            if value < 256 then return '\204' .. char(value) end
            if value < 65536 then return '\205' .. big(value, 2) end
            if value < 4294967296 then return '\206' .. big(value, 4) end
            return '\207' .. big(value, 8)
        end
        if value >= -32 then return char(value + 256) end
        if value >= -128 then return '\208' .. char(value + 256) end
        if value >= -32768 then return '\209' .. big(value, 2) end
        if value >= -2147483648 then return '\210' .. big(value, 4) end
        return '\211' .. big(value, 8)
    end

    local function string_head(size)
        if size < 32 then return char(160 + size) end
        if size < 256 then return '\217' .. char(size) end
        if size < 65536 then return '\218' .. big(size, 2) end
        return '\219' .. big(size, 4)
    end

    -- Whether the keys are 1 to n, and how many there are.
    local function shape(tab)
        local count, highest, is_array = 0, 0, true
        for key in next, tab do
            count = count + 1
            if type(key) ~= 'number' or key <= 0 or key ~= floor(key) then
                is_array = false
            elseif key > highest then
                highest = key
            end
        end
        return is_array and highest == count, count
    end

    local encode

    local function encode_table(out, tab, depth)
        local is_array, count = shape(tab)
        local small, wide = is_array and 144 or 128, is_array and '\220' or '\222'
        if count < 16 then
            out[#out + 1] = char(small + count)
        elseif count < 65536 then
            out[#out + 1] = wide .. big(count, 2)
        else
            out[#out + 1] = char(byte(wide) + 1) .. big(count, 4)
        end
        if is_array then
            for index = 1, count do encode(out, tab[index], depth + 1) end
        else
            for key, value in next, tab do
                encode(out, key, depth + 1)
                encode(out, value, depth + 1)
            end
        end
    end

    function encode(out, value, depth)
        local kind = type(value)
        if kind == 'string' then
            out[#out + 1] = string_head(#value) .. value
        elseif kind == 'number' then
            out[#out + 1] = number_bytes(value)
        elseif kind == 'boolean' then
            out[#out + 1] = value and '\195' or '\194'
        elseif kind == 'table' and depth < NESTING_MAX then
            encode_table(out, value, depth)
        else
            out[#out + 1] = '\192'
        end
    end

    local lib = { _NAME = 'cmsgpack', _VERSION = 'lua-cmsgpack 0.4.0', _COPYRIGHT = 'Copyright (C) 2012, Salvatore Sanfilippo',
        _DESCRIPTION = 'MessagePack C implementation for Lua' }

    function lib.pack(...)
        local count = select('#', ...)
        if count == 0 then complain("bad argument #0 to 'pack' (MessagePack pack needs input.)") end
        local out = {}
        for index = 1, count do encode(out, (select(index, ...)), 0) end
        return concat(out)
    end

    local function missing() complain('Missing bytes in input.') end

    local function big_integer(data, place, size, signed)
        if place + size - 1 > #data then missing() end
        local value = 0
        for index = place, place + size - 1 do value = value * 256 + byte(data, index) end
        if signed and byte(data, place) >= 128 then value = value - 256 ^ size end
        return value, place + size
    end

    local function bytes_at(data, place, size)
        if place + size - 1 > #data then missing() end
        return sub(data, place, place + size - 1), place + size
    end

    local decode

    local function decode_array(data, place, count)
        local tab = {}
        for index = 1, count do tab[index], place = decode(data, place) end
        return tab, place
    end

    local function decode_map(data, place, count)
        local tab, key, value = {}, nil, nil
        for _ = 1, count do
            key, place = decode(data, place)
            value, place = decode(data, place)
            if key == nil then complain('table index is nil') end
            tab[key] = value
        end
        return tab, place
    end

    local function sized(reader, size)
        return function(data, place)
            local count
            count, place = big_integer(data, place, size)
            return reader(data, place, count)
        end
    end

    local function number(size, signed) return function(data, place) return big_integer(data, place, size, signed) end end

    local function double(option, size)
        return function(data, place)
            local text
            text, place = bytes_at(data, place, size)
            return unpack_double(option, false, text), place
        end
    end

    local readers = {
        [192] = function(_, place) return nil, place end,
        [194] = function(_, place) return false, place end,
        [195] = function(_, place) return true, place end,
        [196] = sized(bytes_at, 1), [197] = sized(bytes_at, 2), [198] = sized(bytes_at, 4),
        [202] = double('f', 4), [203] = double('d', 8),
        [204] = number(1), [205] = number(2), [206] = number(4), [207] = number(8),
        [208] = number(1, true), [209] = number(2, true), [210] = number(4, true), [211] = number(8, true),
        [217] = sized(bytes_at, 1), [218] = sized(bytes_at, 2), [219] = sized(bytes_at, 4),
        [220] = sized(decode_array, 2), [221] = sized(decode_array, 4),
        [222] = sized(decode_map, 2), [223] = sized(decode_map, 4),
    }

    function decode(data, place)
        charge(10)
        local head = byte(data, place)
        if not head then missing() end
        place = place + 1
        if head < 128 then return head, place end
        if head < 144 then return decode_map(data, place, head - 128) end
        if head < 160 then return decode_array(data, place, head - 144) end
        if head < 192 then return bytes_at(data, place, head - 160) end
        if head >= 224 then return head - 256, place end
        local reader = readers[head]
        if not reader then complain('Bad data format in input.') end
        return reader(data, place)
    end

    local function unpack_some(data, limit, offset, tells_offset)
        if type(data) == 'number' then data = data .. '' end
        if type(data) ~= 'string' then
            complain(format("bad argument #1 to 'unpack' (string expected, got %s)", data == nil and 'no value' or type(data)))
        end
        if offset < 0 or limit < 0 then
            complain(format('Invalid request to unpack with offset of %d and limit of %d.', offset, #data))
        elseif offset > #data then
            complain(format('Start offset %d greater than input length %d.', offset, #data))
        end
        local out, count, place = {}, 0, offset + 1
        if limit == 0 then limit = huge end
        while count < limit and place <= #data do
            count = count + 1
            out[count], place = decode(data, place)
        end
        if tells_offset then return place > #data and -1 or place - 1, unpack(out, 1, count) end
        return unpack(out, 1, count)
    end

    function lib.unpack(data) return unpack_some(data, 0, 0, false) end
    function lib.unpack_one(data, offset) return unpack_some(data, 1, tonumber(offset) or 0, true) end
    function lib.unpack_limit(data, limit, offset)
        return unpack_some(data, tonumber(limit) or 0, tonumber(offset) or 0, true)
    end

    return lib
end
