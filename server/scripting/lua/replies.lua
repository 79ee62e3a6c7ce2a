-- Replies of Redis as values of Lua, and values of Lua as replies.
--
-- Source: redis 7.0 script_lua.c (redisProtocolToLuaType, luaReplyToRedisReply).
local raw_next, rawget, type, tostring, tonumber = next, rawget, type, tostring, tonumber
local format, byte, sub, gsub, len, find = string.format, string.byte, string.sub, string.gsub, string.len, string.find

local LINE_BYTES_MAX = 1048576 -- of a reply that is a status or an error
local shows_resp3, speaks_resp3 = false, false -- the protocol of the client, and what redis.setresp has chosen

local decode

local function decode_items(reply, place, count)
    local items, value = {}, nil
    for index = 1, count do
        value, place = decode(reply, place)
        items[index] = value
    end
    return items, place
end

local aggregates = {
    [42] = decode_items, -- *
    [62] = decode_items, -- >
    [37] = function(reply, place, count) -- %
        local map, key, value = {}, nil, nil
        for _ = 1, count do
            key, place = decode(reply, place)
            value, place = decode(reply, place)
            if key ~= nil then map[key] = value end
        end
        return { map = map }, place
    end,
    [126] = function(reply, place, count) -- ~
        local set, key = {}, nil
        for _ = 1, count do
            key, place = decode(reply, place)
            if key ~= nil then set[key] = true end
        end
        return { set = set }, place
    end,
}

local lines = {
    [43] = function(text) return { ok = text } end, -- +
    [45] = function(text) return { err = text } end, -- -
    [58] = tonumber, -- :
    [44] = function(text) -- ,
        return { double = text == 'inf' and math.huge or text == '-inf' and -math.huge or tonumber(text) or 0 / 0 }
    end,
    [35] = function(text) return text == 't' end, -- #
    [95] = function() return nil end, -- _
    [40] = function(text) return { big_number = text } end, -- (
}

-- Returns the value that stands at `place`, and the place behind it.
function decode(reply, place)
    local kind = byte(reply, place)
    local stop_at = find(reply, '\r\n', place, true)
    local text = sub(reply, place + 1, stop_at - 1)
    local line = lines[kind]
    if line then return line(text), stop_at + 2 end
    local count = tonumber(text)
    if count < 0 then return false, stop_at + 2 end
    if kind == 36 then return sub(reply, stop_at + 2, stop_at + 1 + count), stop_at + 4 + count end -- $
    if kind == 61 then -- =
        local value = { format = sub(reply, stop_at + 2, stop_at + 4), string = sub(reply, stop_at + 6, stop_at + 1 + count) }
        return { verbatim_string = value }, stop_at + 4 + count
    end
    return aggregates[kind](reply, stop_at + 2, count)
end

-- --- values of Lua as replies

local DEPTH_MAX = 1000

local function line_of(text) return (gsub(sub(tostring(text), 1, LINE_BYTES_MAX), '[\r\n]', ' ')) end

local function error_line(text)
    return '-' .. line_of(text) .. '\r\n'
end

local function bulk(text) return '$' .. len(text) .. '\r\n' .. text .. '\r\n' end
local function null() return shows_resp3 and '_\r\n' or '$-1\r\n' end

local encode

local function encode_counted(out, tab, sign, width, put)
    local head, count = #out + 1, 0
    out[head] = ''
    for key, value in raw_next, tab do
        put(key, value)
        count = count + 1
    end
    out[head] = (shows_resp3 and sign .. count or '*' .. count * width) .. '\r\n'
end

local function encode_array(out, tab, depth)
    local head, count = #out + 1, 0
    out[head] = ''
    while true do
        local item = rawget(tab, count + 1)
        if item == nil then break end
        count = count + 1
        encode(out, item, depth + 1)
    end
    out[head] = '*' .. count .. '\r\n'
end

local function encode_table(out, tab, depth)
    local function field(name, kind)
        local value = rawget(tab, name)
        if type(value) == kind then return value end
    end
    local err, ok, double = field('err', 'string'), field('ok', 'string'), field('double', 'number')
    if err then out[#out + 1] = error_line(err) return end
    if ok then out[#out + 1] = '+' .. line_of(ok) .. '\r\n' return end
    if double then
        local text = double ~= double and 'nan' or format('%.17g', double)
        out[#out + 1] = shows_resp3 and ',' .. text .. '\r\n' or bulk(text)
        return
    end
    local map, set, big = field('map', 'table'), field('set', 'table'), field('big_number', 'string')
    local verbatim = field('verbatim_string', 'table')
    if map then
        return encode_counted(out, map, '%', 2, function(key, value)
            encode(out, key, depth + 1)
            encode(out, value, depth + 1)
        end)
    end
    if set then return encode_counted(out, set, '~', 1, function(key) encode(out, key, depth + 1) end) end
    if big then
        out[#out + 1] = shows_resp3 and '(' .. line_of(big) .. '\r\n' or bulk(line_of(big))
        return
    end
    if verbatim and type(rawget(verbatim, 'format')) == 'string' and type(rawget(verbatim, 'string')) == 'string' then
        local text, kind = rawget(verbatim, 'string'), sub(rawget(verbatim, 'format') .. '   ', 1, 3)
        out[#out + 1] = shows_resp3 and format('=%d\r\n%s:', len(text) + 4, kind) .. text .. '\r\n' or bulk(text)
        return
    end
    encode_array(out, tab, depth)
end

function encode(out, value, depth)
    local kind = type(value)
    if kind == 'string' then
        out[#out + 1] = bulk(value)
    elseif kind == 'number' then
        out[#out + 1] = ':' .. format('%d', value) .. '\r\n'
    elseif kind == 'boolean' and speaks_resp3 and shows_resp3 then
        out[#out + 1] = value and '#t\r\n' or '#f\r\n'
    elseif kind == 'boolean' then
        out[#out + 1] = value and ':1\r\n' or speaks_resp3 and ':0\r\n' or null()
    elseif kind ~= 'table' then
        out[#out + 1] = null()
    elseif depth > DEPTH_MAX then
        out[#out + 1] = '-ERR reached lua stack limit\r\n'
    else
        encode_table(out, value, depth)
    end
end

-- Sets the protocol of the client, and the one that the script has chosen by redis.setresp.
local function set_protocols(of_client, of_script)
    shows_resp3, speaks_resp3 = of_client, of_script
end

return decode, encode, error_line, set_protocols
