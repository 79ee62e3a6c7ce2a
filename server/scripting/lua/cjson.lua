-- The library `cjson` of Redis: Lua CJSON 2.1.0 by Mark Pulford (https://kyne.com.au/~mark/software/lua-cjson.php), in Lua: the
-- same numbers, escapes, sparse arrays, depths and error texts. Its settings are per instance, as there: what a script sets
-- stays for later scripts of this node.
return function(helpers, charge, complain)
    local byte, sub, char, format, find, gsub, rep = string.byte, string.sub, string.char, string.format, string.find, string.gsub, string.rep
    local floor, huge, concat, type, tonumber, tostring, next = math.floor, math.huge, table.concat, type, tonumber, tostring, next
    local getmetatable, select = getmetatable, select
    local NULL = helpers.null
    local PIECE_BYTES = 4096

    local escapes = {}
    for code = 0, 31 do escapes[char(code)] = format('\\u%04x', code) end
    for from, to in pairs { ['\b'] = '\\b', ['\t'] = '\\t', ['\n'] = '\\n', ['\f'] = '\\f', ['\r'] = '\\r', ['"'] = '\\"', ['\\'] = '\\\\',
        ['/'] = '\\/', ['\127'] = '\\u007f' } do escapes[from] = to end

    local fail = complain

    local function new()
        local settings = { sparse_convert = false, sparse_ratio = 2, sparse_safe = 10, encode_depth = 1000, decode_depth = 1000,
            encode_invalid = false, decode_invalid = true, precision = 14, keep = true }
        local encode

        local function escaped(text) return (gsub(text, '[%z\1-\31"\\/\127]', escapes)) end

        -- A long text is escaped in pieces, so that it can be stopped.
        local function quoted(text)
            if #text <= PIECE_BYTES then return '"' .. escaped(text) .. '"' end
            local pieces = {}
            for start = 1, #text, PIECE_BYTES do
                charge(PIECE_BYTES / 2)
                pieces[#pieces + 1] = escaped(sub(text, start, start + PIECE_BYTES - 1))
            end
            return '"' .. concat(pieces) .. '"'
        end

        local function number_text(value)
            if value ~= value or value == huge or value == -huge then
                if settings.encode_invalid == 'null' then return 'null' end
                if not settings.encode_invalid then fail('Cannot serialise number: must not be NaN or Inf') end
                return value ~= value and 'nan' or value > 0 and 'inf' or '-inf'
            end
            return format('%.' .. settings.precision .. 'g', value)
        end

        -- The length of an array; -1 if the table is none.
        local function array_length(tab)
            local highest, count = 0, 0
            for key in next, tab do
                if type(key) ~= 'number' or key ~= floor(key) or key < 1 then return -1 end
                count = count + 1
                if key > highest then highest = key end
            end
            if settings.sparse_ratio > 0 and highest > count * settings.sparse_ratio and highest > settings.sparse_safe then
                if not settings.sparse_convert then fail('Cannot serialise table: excessively sparse array') end
                return -1
            end
            return highest
        end

        local function encode_object(out, tab, depth)
            out[#out + 1] = '{'
            local first = true
            for key, value in next, tab do
                if not first then out[#out + 1] = ',' end
                first = false
                if type(key) == 'number' then
                    out[#out + 1] = '"' .. number_text(key) .. '":'
                elseif type(key) == 'string' then
                    out[#out + 1] = quoted(key) .. ':'
                else
                    fail('Cannot serialise ' .. type(key) .. ': table key must be a number or string')
                end
                encode(out, value, depth)
            end
            out[#out + 1] = '}'
        end

        local function encode_table(out, tab, depth)
            depth = depth + 1
            if depth > settings.encode_depth then
                fail(format('Cannot serialise, excessive nesting (%d)', depth))
            end
            local length = array_length(tab)
            if length <= 0 then return encode_object(out, tab, depth) end
            out[#out + 1] = '['
            for index = 1, length do
                if index > 1 then out[#out + 1] = ',' end
                encode(out, tab[index], depth)
            end
            out[#out + 1] = ']'
        end

        function encode(out, value, depth)
            local kind = type(value)
            if kind == 'string' then
                out[#out + 1] = quoted(value)
            elseif kind == 'number' then
                out[#out + 1] = number_text(value)
            elseif kind == 'boolean' then
                out[#out + 1] = value and 'true' or 'false'
            elseif kind == 'table' then
                encode_table(out, value, depth)
            elseif kind == 'nil' or value == NULL then
                out[#out + 1] = 'null'
            else
                fail('Cannot serialise ' .. kind .. ': type not supported')
            end
        end

        -- --- decoding

        local function wrong(expected, text, place)
            local head = sub(text, place, place)
            local found
            if place > #text then found = 'T_END'
            elseif head == '{' then found = 'T_OBJ_BEGIN'
            elseif head == '}' then found = 'T_OBJ_END'
            elseif head == '[' then found = 'T_ARR_BEGIN'
            elseif head == ']' then found = 'T_ARR_END'
            elseif head == ':' then found = 'T_COLON'
            elseif head == ',' then found = 'T_COMMA'
            elseif head == '"' then found = 'T_STRING'
            elseif find(text, '^[%d%-]', place) then found = 'T_NUMBER'
            elseif find(text, '^true', place) or find(text, '^false', place) then found = 'T_BOOLEAN'
            elseif find(text, '^null', place) then found = 'T_NULL'
            else found = 'invalid token' end
            fail(format('Expected %s but found %s at character %d', expected, found, place))
        end

        local function utf8(code)
            if code < 128 then return char(code) end
            if code < 2048 then return char(192 + floor(code / 64), 128 + code % 64) end
            if code < 65536 then return char(224 + floor(code / 4096), 128 + floor(code / 64) % 64, 128 + code % 64) end
            return char(240 + floor(code / 262144), 128 + floor(code / 4096) % 64, 128 + floor(code / 64) % 64, 128 + code % 64)
        end

        local plain_escapes = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }

        local function code_at(text, place)
            local digits = sub(text, place, place + 3)
            return find(digits, '^%x%x%x%x$') and tonumber(digits, 16) or nil
        end

        -- The characters of an escape whose letter stands at `place`, and the place behind it.
        local function unescape(text, place)
            local letter = sub(text, place, place)
            if plain_escapes[letter] then return plain_escapes[letter], place + 1 end
            if letter ~= 'u' then
                fail(format('Expected value but found invalid escape code at character %d', place - 1))
            end
            local code, after = code_at(text, place + 1), place + 5
            if code and code >= 0xD800 and code < 0xDC00 then
                local low = sub(text, after, after + 1) == '\\u' and code_at(text, after + 2)
                code = low and low >= 0xDC00 and low < 0xE000 and (code - 0xD800) * 1024 + low - 0xDC00 + 65536 or nil
                after = after + 6
            elseif code and code >= 0xDC00 and code < 0xE000 then
                code = nil
            end
            if not code then
                fail(format('Expected value but found invalid unicode escape code at character %d', place - 1))
            end
            return utf8(code), after
        end

        local function decode_string(text, place)
            local pieces, start = {}, place + 1
            while true do
                local stop = find(text, '["\\%z\1-\31]', start)
                local head = stop and byte(text, stop)
                if not stop then
                    fail(format('Expected value but found unexpected end of string at character %d', #text + 1))
                end
                if head == 34 then
                    local last = sub(text, start, stop - 1)
                    if #pieces == 0 then return last, stop + 1 end
                    pieces[#pieces + 1] = last
                    return concat(pieces), stop + 1
                end
                pieces[#pieces + 1] = sub(text, start, head == 92 and stop - 1 or stop)
                start = stop + 1
                if head == 92 then pieces[#pieces + 1], start = unescape(text, stop + 1) end
            end
        end

        local function decode_number(text, place)
            -- Step by step: one pattern for all of it would try all lengths of the digits.
            local stop = select(2, find(text, '^[%-%+]?%d+', place))
            if stop then
                stop = select(2, find(text, '^%.%d*', stop + 1)) or stop
                stop = select(2, find(text, '^[eE][%+%-]?%d+', stop + 1)) or stop
            end
            if not stop then fail(format('Expected value but found invalid number at character %d', place)) end
            local first, second = byte(text, place, place + 1)
            if first == 48 and second and second >= 48 and second <= 57 or find(text, '^%-0%d', place) then
                if not settings.decode_invalid then fail(format('Expected value but found invalid number at character %d', place)) end
            end
            local hexadecimal = select(2, find(text, '^%-?0[xX]%x+', place))
            if hexadecimal and settings.decode_invalid then
                local sign = first == 45 and -1 or 1
                return sign * tonumber(sub(text, place + (sign < 0 and 3 or 2), hexadecimal), 16), hexadecimal + 1
            end
            return tonumber(sub(text, place, stop)), stop + 1
        end

        local words = { { 'true', true }, { 'false', false }, { 'null', NULL } }
        local invalid_words = { { '[iI][nN][fF][iI][nN][iI][tT][yY]', huge }, { '[iI][nN][fF]', huge },
            { '%-[iI][nN][fF][iI][nN][iI][tT][yY]', -huge }, { '%-[iI][nN][fF]', -huge },
            { '[nN][aA][nN]', -(0 / 0) }, { '%-[nN][aA][nN]', 0 / 0 } }

        local function decode_word(text, place, expected)
            for _, word in ipairs(words) do
                local _, stop = find(text, '^' .. word[1], place)
                if stop then return word[2], stop + 1 end
            end
            if settings.decode_invalid then
                for _, word in ipairs(invalid_words) do
                    local _, stop = find(text, '^' .. word[1], place)
                    if stop then return word[2], stop + 1 end
                end
            end
            return wrong(expected, text, place)
        end

        local decode

        local function skip(text, place) return (find(text, '[^ \t\r\n]', place)) or #text + 1 end

        local function deeper(depth, place)
            depth = depth + 1
            if depth > settings.decode_depth then
                fail(format('Found too many nested data structures (%d) at character %d', depth, place))
            end
            return depth
        end

        local function decode_array(text, place, depth)
            local array, count, value = {}, 0, nil
            depth = deeper(depth, place)
            place = skip(text, place + 1)
            if byte(text, place) == 93 then return array, place + 1 end
            while true do
                value, place = decode(text, place, depth)
                count = count + 1
                array[count] = value
                place = skip(text, place)
                local head = byte(text, place)
                if head == 93 then return array, place + 1 end
                if head ~= 44 then wrong('comma or array end', text, place) end
                place = skip(text, place + 1)
            end
        end

        local function decode_object(text, place, depth)
            local object, key = {}, nil
            depth = deeper(depth, place)
            place = skip(text, place + 1)
            if byte(text, place) == 125 then return object, place + 1 end
            while true do
                if byte(text, place) ~= 34 then wrong('object key string', text, place) end
                key, place = decode_string(text, place)
                place = skip(text, place)
                if byte(text, place) ~= 58 then wrong('colon', text, place) end
                object[key], place = decode(text, skip(text, place + 1), depth)
                place = skip(text, place)
                local head = byte(text, place)
                if head == 125 then return object, place + 1 end
                if head ~= 44 then wrong('comma or object end', text, place) end
                place = skip(text, place + 1)
            end
        end

        function decode(text, place, depth)
            local head = byte(text, place)
            if head == 34 then return decode_string(text, place) end
            if head == 123 then return decode_object(text, place, depth) end
            if head == 91 then return decode_array(text, place, depth) end
            local is_word = head == 45 and find(text, '^%-[iInN]', place) and settings.decode_invalid
            if head and (head == 45 or head == 43 or head >= 48 and head <= 57) and not is_word then
                return decode_number(text, place)
            end
            return decode_word(text, place, 'value')
        end

        local lib = { null = NULL, _NAME = 'cjson', _VERSION = '2.1.0', new = new }

        local function only_argument(name, ...)
            if select('#', ...) ~= 1 then complain(format("bad argument #1 to '%s' (expected 1 argument)", name)) end
            return (...)
        end

        function lib.encode(...)
            local out = {}
            encode(out, only_argument('encode', ...), 0)
            return concat(out)
        end

        function lib.decode(...)
            local text = only_argument('decode', ...)
            if type(text) == 'number' then text = tostring(text) end
            if type(text) ~= 'string' then
                complain(format("bad argument #1 to 'decode' (string expected, got %s)", type(text)))
            end
            charge(#text)
            if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
                fail('JSON parser does not support UTF-16 or UTF-32')
            end
            local value, place = decode(text, skip(text, 1), 0)
            place = skip(text, place)
            if place <= #text then wrong('the end', text, place) end
            return value
        end

        -- The functions that read and change one setting: a whole number between two limits.
        local function number_setting(function_name, name, low, high)
            lib[function_name] = function(value)
                if value ~= nil then
                    local number = tonumber(value)
                    if not number or number < low or number > high then
                        complain(format("bad argument #1 to '%s' (expected integer between %d and %d)", function_name, low, high))
                    end
                    settings[name] = floor(number)
                end
                return settings[name]
            end
        end

        number_setting('encode_max_depth', 'encode_depth', 1, 2147483647)
        number_setting('decode_max_depth', 'decode_depth', 1, 2147483647)
        number_setting('encode_number_precision', 'precision', 1, 14)

        local function choice_setting(function_name, name, allowed)
            lib[function_name] = function(value)
                if value ~= nil then
                    if value == 'on' then value = true elseif value == 'off' then value = false end
                    if not (type(value) == 'boolean' or allowed[value]) then
                        complain(format("bad argument #1 to '%s' (invalid option '%s')", function_name, tostring(value)))
                    end
                    settings[name] = value
                end
                return settings[name]
            end
        end

        choice_setting('encode_invalid_numbers', 'encode_invalid', { null = true })
        choice_setting('decode_invalid_numbers', 'decode_invalid', {})
        choice_setting('encode_keep_buffer', 'keep', {})

        function lib.encode_sparse_array(convert, ratio, safe)
            if convert ~= nil then settings.sparse_convert = convert and convert ~= 'off' or false end
            settings.sparse_ratio = tonumber(ratio) or settings.sparse_ratio
            settings.sparse_safe = tonumber(safe) or settings.sparse_safe
            return settings.sparse_convert, settings.sparse_ratio, settings.sparse_safe
        end

        return lib
    end

    return new()
end
