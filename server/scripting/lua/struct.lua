-- The library `struct` of Redis: lua-struct 0.2 by Roberto Ierusalimschy, the version in Redis' deps.
return function(helpers, charge, complain)
    local pack_double, unpack_double = helpers.pack_double, helpers.unpack_double
    local byte, sub, char, rep, format, find = string.byte, string.sub, string.char, string.rep, string.format, string.find
    local floor, concat, tonumber, type, select, unpack = math.floor, table.concat, tonumber, type, select, unpack
    local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1 }
    local INTEGER_BYTES_MAX, ALIGNMENT_MAX = 32, 8
    local SIGNED = { b = true, h = true, l = true, i = true }
    local VALUE_MAX = 512 * 1048576

    local function bad(place, name, text) complain(format("bad argument #%d to '%s' (%s)", place, name, text)) end

    -- Reads a format: calls `each(option, size, alignment, little)` for each item that is no setting.
    local function read(name, text, each)
        local place, little, alignment = 1, true, 1
        local function number(default)
            local _, stop, digits = find(text, '^(%d+)', place)
            if not digits then return default end
            place = stop + 1
            local value = tonumber(digits)
            if value > VALUE_MAX * 4 - 1 then complain('integral size overflow') end
            return value
        end
        while place <= #text do
            charge(20)
            local option = sub(text, place, place)
            place = place + 1
            local size = SIZES[option]
            if option == 'c' then
                size = number(1)
            elseif option == 'i' or option == 'I' then
                size = number(4)
                if size > INTEGER_BYTES_MAX then
                    complain(format('integral size %d is larger than limit of %d', size, INTEGER_BYTES_MAX))
                end
            elseif option == 's' then
                size = 0
            end
            if size then
                each(option, size, alignment, little)
            elseif option == '>' or option == '<' then
                little = option == '<'
            elseif option == '!' then
                local value = number(ALIGNMENT_MAX)
                local power = 1
                while power < value do power = power * 2 end
                if value <= 0 or power ~= value then complain(format('alignment %d is not a power of 2', value)) end
                alignment = value
            elseif option ~= ' ' then
                bad(1, name, format("invalid format option '%s'", option))
            end
        end
    end

    local function padding(position, option, size, alignment)
        if size == 0 or option == 'c' or option == 's' then return 0 end
        if size > alignment then size = alignment end
        return (size - position % size) % size
    end

    local function integer_bytes(value, size, little)
        local bytes = {}
        value = value < 0 and -floor(-value) or floor(value)
        for index = 1, size do
            bytes[little and index or size + 1 - index] = value % 256
            value = floor(value / 256)
        end
        return char(unpack(bytes))
    end

    local function integer_of(text, little, signed)
        local value, size = 0, #text
        for index = 1, size do value = value * 256 + byte(text, little and size + 1 - index or index) end
        if signed and byte(text, little and size or 1) >= 128 then value = value - 256 ^ size end
        return value
    end

    local struct = {}

    function struct.pack(text, ...)
        if type(text) == 'number' then text = text .. '' end
        if type(text) ~= 'string' then bad(1, 'pack', 'string expected, got ' .. (text == nil and 'no value' or type(text))) end
        local out, total, place, values = {}, 0, 1, { ... }
        local function next_value(kind)
            local value = values[place]
            place = place + 1
            if kind == 'number' then
                local number = tonumber(value)
                if number then return number end
            elseif type(value) == 'string' or type(value) == 'number' then
                return value .. ''
            end
            bad(place, 'pack', format('%s expected, got %s', kind, type(value)))
        end
        read('pack', text, function(option, size, alignment, little)
            local fill = padding(total, option, size, alignment)
            if fill > 0 then out[#out + 1] = rep('\0', fill) end
            local piece
            if option == 'x' then
                piece = '\0'
            elseif option == 'f' or option == 'd' then
                piece = pack_double(option, little, next_value('number'))
            elseif option == 'c' or option == 's' then
                piece = next_value('string')
                if size == 0 then size = #piece end
                if #piece < size then bad(place + 1, 'pack', 'string too short') end
                piece = sub(piece, 1, size) .. (option == 's' and '\0' or '')
            else
                piece = integer_bytes(next_value('number'), size, little)
            end
            out[#out + 1] = piece
            total = total + fill + #piece
        end)
        return concat(out)
    end

    function struct.unpack(text, data, start)
        if type(text) == 'number' then text = text .. '' end
        if type(text) ~= 'string' then bad(1, 'unpack', 'string expected, got ' .. (text == nil and 'no value' or type(text))) end
        if type(data) == 'number' then data = data .. '' end
        if type(data) ~= 'string' then bad(2, 'unpack', 'string expected, got ' .. (data == nil and 'no value' or type(data))) end
        local position, out, count = (start or 1) - 1, {}, 0
        if position < 0 then bad(3, 'unpack', 'offset must be 1 or greater') end
        local function check(size) if position + size > #data then bad(2, 'unpack', 'data string too short') end end
        read('unpack', text, function(option, size, alignment, little)
            check(size)
            position = position + padding(position, option, size, alignment)
            check(size)
            local value
            if option == 'c' then
                if size == 0 then
                    if count == 0 or type(out[count]) ~= 'number' then complain("format 'c0' needs a previous size") end
                    size = out[count]
                    count = count - 1
                    check(size)
                end
                value = sub(data, position + 1, position + size)
            elseif option == 's' then
                local stop = find(data, '\0', position + 1, true)
                if not stop then complain('unfinished string in data') end
                value, size = sub(data, position + 1, stop - 1), stop - position
            elseif option == 'f' or option == 'd' then
                value = unpack_double(option, little, sub(data, position + 1, position + size))
            elseif option ~= 'x' then
                value = integer_of(sub(data, position + 1, position + size), little, SIGNED[option])
            end
            position = position + size
            if option ~= 'x' then
                count = count + 1
                out[count] = value
            end
        end)
        out[count + 1] = position + 1
        return unpack(out, 1, count + 1)
    end

    function struct.size(text)
        if type(text) == 'number' then text = text .. '' end
        if type(text) ~= 'string' then bad(1, 'size', 'string expected, got ' .. (text == nil and 'no value' or type(text))) end
        local total = 0
        read('size', text, function(option, size, alignment)
            if option == 's' then bad(1, 'size', "option 's' has no fixed size") end
            if option == 'c' and size == 0 then bad(1, 'size', "option 'c0' has no fixed size") end
            total = total + padding(total, option, size, alignment) + size
        end)
        return total
    end

    return struct
end
