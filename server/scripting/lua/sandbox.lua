-- The room in which scripts run: what they can reach, and what stops them.
--
-- Theory. A script sees one table of globals, which it can read and not change: an empty table whose metatable leads to the
-- real one. The same holds for each library in it. Whatever could lead out is absent (os, io, debug, getfenv, setfenv, newproxy,
-- package) or reads text only (load, loadstring). Functions of Python are values of local variables here and never reach a
-- script, and none of them raises: an exception of Python would be an object of Python in the hands of `pcall`.
--
-- `stop` ends a script for good: because its budget is spent, its time is over, or the host wants that. The error passes every function
-- that catches errors, since `pcall`, `xpcall` and `coroutine.resume` are ours and raise it again. Instructions are counted by
-- a hook, which every coroutine gets, too. Functions in C count none, so those whose work does not grow with the length of
-- their arguments only (patterns, string.rep, table.sort) tell `charge` beforehand what they may cost. What is left are many
-- instructions that are each linear in something large (a string of 1 MB, a table of 100,000): so a run has a limit of
-- processor time as well. The hook looks at the clock, more often once a script has much in its memory. The limit grows with
-- each command by what an ordinary one takes on a slow machine, so that it does not stop who runs many there. Of commands
-- that take longer a part counts, so that a script may use some; but together they get LONG_S at most, since nobody else is
-- served meanwhile. The host gives the clock, which counts this thread alone: the engine of the storage works in others.
--
-- Source: redis 7.0 script_lua.c, eval.c.
local py_call, py_sha1, py_log, py_acl, clock, libraries, constants, make_functions = ...

local debug_sethook, getinfo = debug.sethook, debug.getinfo
local raw_pcall, raw_xpcall, raw_load, raw_error = pcall, xpcall, load, error
local raw_resume, raw_create, running = coroutine.resume, coroutine.create, coroutine.running
local raw_next, raw_pairs, raw_ipairs, raw_setmetatable, raw_getmetatable = next, pairs, ipairs, setmetatable, getmetatable
local raw_rawset, setfenv, type, tostring, tonumber, select, unpack = rawset, setfenv, type, tostring, tonumber, select, unpack
local collect = collectgarbage
local format, byte, sub, rep, gsub, len = string.format, string.byte, string.sub, string.rep, string.gsub, string.len
local concat, insert, remove, sort, find = table.concat, table.insert, table.remove, table.sort, string.find
local floor, min, max, frexp = math.floor, math.min, math.max, math.frexp

local HOOK_INSTRUCTIONS = 250
local DENSE_INSTRUCTIONS = 20 -- between two looks at the clock, once there is something large to work on
local LARGE_KB = 1024
local COMMAND_COST = 1000
local INSTRUCTIONS_PER_S = 5e7 -- half of what simple instructions reach on a slow machine
local COMMAND_S = 200e-6 -- what a command adds to the limit of time, for what it costs here and there on a slow machine
local LONG_SHARE = 1 / 8 -- of the time that commands take beyond that counts: those on large collections take milliseconds
local LONG_S = 60e-3 -- once so much of it did not count, all counts: other clients wait meanwhile
local COPIED_BYTES = 8 -- that a function in C changes or digests in the time of one instruction
local COMPILED_COST = 8 -- of a byte of a text that is compiled
local PIECE_BYTES, PIECE_ITEMS = 4096, 500 -- what is done between two looks at the clock
local LONG_BYTES = 1024 -- comparing texts of this length is worth a look at the clock
local LINE_BYTES_MAX = 1048576 -- of a reply that is a status or an error
local PATTERN_BYTES_MAX = 4096 -- the matcher recurses once an item, on the stack of C
local STOP = {}
local stopped = nil -- why the script must end: 'budget', 'time', 'memory' or 'host'
local spent, budget = 0, math.huge
local allowance = math.huge -- what one function in C may cost
local ends_at = math.huge -- what the clock may show; each command adds to it
local long_left = 0 -- how much time of long commands need not count
local in_command = 0 -- looks at the clock that a command may pass, as it has not added its own time yet

local function stop(reason)
    stopped = stopped or reason
    raw_error(STOP, 0)
end

-- --- where in the text of a script something happens

local OWN = '=redis' -- the source of this file and of the libraries
local SCRIPT, LIBRARY = 'user_script', 'user_function'
local running_name, only_line = SCRIPT, 1 -- of the text that runs: its name, and its line if it has but one

-- Returns source and line of the innermost place in the text of a script; the line is nil if it is not known. `return f(x)`
-- gives up the place of the caller (a tail call); in a text of one line it is known all the same.
local function place()
    for level = 3, 30 do
        local info = getinfo(level, 'Sl')
        if not info then break end
        if info.what ~= 'C' and info.what ~= 'tail' and info.source ~= OWN then
            return info.source, info.currentline, info.short_src
        end
    end
    return '@' .. running_name, only_line, running_name
end

local function complain(text)
    local _, line, name = place()
    raw_error(name .. ':' .. (line and line .. ':' or '') .. ' ' .. text, 0)
end

-- An error of one of Lua's own functions that was called from here says so: it should say where the script is.
local function placed(text)
    if not find(text, '^redis:%d+: ') then return text end
    local _, line, name = place()
    return name .. ':' .. (line and line .. ':' or '') .. gsub(text, '^redis:%d+:', '')
end

local function charge(cost)
    spent = spent + cost
    if stopped or spent > budget then stop('budget') end
end

-- What a function in C is about to cost. It cannot be stopped, so the host must be able to wait for it.
local function charge_whole(cost)
    if cost > allowance then stop('budget') end
    charge(cost)
end

local function check_time()
    if in_command > 0 then
        in_command = in_command - 1 -- an error may have ended the command, so this is no mere flag
    elseif clock() > ends_at then stop('time') end
end

local is_inside = false -- the script itself runs: only then may the hook raise an error
local base_kb, is_dense = 0, false

local on_count

local function look_more_often()
    is_dense = true
    debug_sethook(on_count, '', DENSE_INSTRUCTIONS)
end

function on_count()
    if not is_inside then return end
    if not is_dense and collect('count') - base_kb > LARGE_KB then look_more_often() end
    charge(is_dense and DENSE_INSTRUCTIONS or HOOK_INSTRUCTIONS)
    check_time()
end

-- --- what cannot be changed

local real_of = raw_setmetatable({}, { __mode = 'k' }) -- the table behind each that scripts see
local READONLY = 'Attempt to modify a readonly table'
local function refuse_change() complain(READONLY) end

local function protect(real, meta_table)
    local shown = {}
    real_of[shown] = real
    return raw_setmetatable(shown, { __index = real, __newindex = refuse_change, __metatable = meta_table })
end
local NO_METATABLE = protect({}, nil)
raw_getmetatable(NO_METATABLE).__metatable = NO_METATABLE

local function check_change(value) if real_of[value] then raw_error(READONLY, 0) end end

local function missing(_, name)
    complain("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
end

local function copy(from)
    local to = {}
    for key, value in raw_next, from do to[key] = value end
    return to
end

-- --- the basic functions

local function caught(ok, ...)
    if stopped then raw_error(STOP, 0) end
    if ok then return true, ... end
    local problem = ...
    if problem == 'not enough memory' and budget ~= math.huge then stop('memory') end
    -- As in Redis 7.0: the table of an error is shown to scripts as its text.
    if type(problem) == 'table' and type(problem.err) == 'string' then return false, problem.err end
    if type(problem) == 'string' then return false, placed(problem) end
    return false, ...
end

local base = {}
for _, name in raw_ipairs { 'tostring', 'assert', 'tonumber', 'rawget', 'rawequal', 'select', 'type', 'ipairs',
    'gcinfo', 'error', 'getmetatable', '_VERSION' } do base[name] = _G[name] end

-- These count themselves: the hook cannot run where the stack of C has no room left, and errors pass it there.
local CATCHER_COST = 50

function base.pcall(...)
    charge(CATCHER_COST)
    return caught(raw_pcall(...))
end

function base.xpcall(body, handler)
    charge(CATCHER_COST)
    return caught(raw_xpcall(body, function(problem)
        if stopped then return problem end
        return handler(problem)
    end))
end

-- Lua 5.1 computes the count in 32 bits, and pushes four thousand million values if it wraps around.
local UNPACK_MAX = 8000
function base.unpack(...)
    local tab, first, last = ...
    first, last = tonumber(first) or 1, tonumber(last)
    if not last and type(tab) == 'table' then last = #tab end
    if last and (first ~= first or last ~= last or last - first >= UNPACK_MAX or first < -2 ^ 31 or last >= 2 ^ 31) then
        complain('too many results to unpack')
    end
    return unpack(...)
end

function base.next(tab, key) return raw_next(real_of[tab] or tab, key) end

function base.pairs(tab)
    local real = real_of[tab]
    if real then return raw_next, copy(real), nil end
    return raw_pairs(tab)
end

function base.rawset(tab, key, value)
    check_change(tab)
    return raw_rawset(tab, key, value)
end

function base.setmetatable(tab, meta)
    check_change(tab)
    return raw_setmetatable(tab, meta)
end

function base.collectgarbage(option, argument)
    if option == nil or option == 'collect' then charge_whole(collect('count') * 20) end
    if option == nil or option == 'collect' or option == 'count' then return collect(option or 'collect') end
    return 0
end

local env -- the globals of EVAL, as scripts see them
local present_env -- those of the text that runs

-- The compiler takes the text in pieces, so that it can be stopped.
local function compile(text, name, its_env)
    if byte(text) == 27 then return nil, 'bytecode is not accepted' end
    local place = 1
    local body, problem = raw_load(function()
        if place > len(text) then return nil end
        local piece = sub(text, place, place + PIECE_BYTES - 1)
        place = place + PIECE_BYTES
        charge(len(piece) * COMPILED_COST)
        check_time()
        return piece
    end, name)
    if stopped then raw_error(STOP, 0) end
    if body then setfenv(body, its_env) end
    return body, problem
end

function base.loadstring(text, name)
    if type(text) == 'number' then text = tostring(text) end
    if type(text) ~= 'string' then
        complain("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ")")
    end
    return compile(text, name == nil and text or tostring(name), present_env)
end

function base.load(reader, name)
    if type(reader) ~= 'function' then
        complain("bad argument #1 to 'load' (function expected, got " .. type(reader) .. ")")
    end
    local pieces = {}
    while true do
        local piece = reader()
        if piece == nil or piece == '' then break end
        if type(piece) ~= 'string' then return nil, 'reader function must return a string' end
        pieces[#pieces + 1] = piece
    end
    return compile(concat(pieces), name == nil and '=(load)' or tostring(name), present_env)
end

-- --- coroutines

local co = copy(coroutine)

function co.create(body)
    charge(100)
    local thread = raw_create(body)
    debug_sethook(thread, on_count, '', is_dense and DENSE_INSTRUCTIONS or HOOK_INSTRUCTIONS)
    return thread
end

function co.resume(...)
    charge(CATCHER_COST)
    return caught(raw_resume(...))
end

local function unwrapped(ok, ...)
    if stopped then raw_error(STOP, 0) end
    if ok then return ... end
    local problem = ...
    if type(problem) == 'string' then complain(problem) end
    raw_error(problem, 0)
end

function co.wrap(body)
    local thread = co.create(body)
    return function(...) return unwrapped(raw_resume(thread, ...)) end
end

-- --- strings and tables

local strings = copy(string)

for _, name in raw_ipairs { 'upper', 'lower', 'reverse' } do
    local change = string[name]
    strings[name] = function(...)
        local text = ...
        if type(text) == 'string' and len(text) > PIECE_BYTES then charge_whole(len(text) / COPIED_BYTES) end
        return change(...)
    end
end

-- Only %q does more than to copy its arguments.
function strings.format(...)
    local shape = ...
    if type(shape) == 'string' and find(shape, 'q', 1, true) then
        local size = 0
        for index = 2, select('#', ...) do
            local text = select(index, ...)
            if type(text) == 'string' then size = size + len(text) end
        end
        if size > PIECE_BYTES then charge_whole(size) end
    end
    return format(...)
end

function strings.dump() complain('unable to dump given function') end

function strings.rep(...)
    local text, count = ...
    count = tonumber(count)
    if text == '' and count then return '' end
    local size = (type(text) == 'string' and len(text) or 0) * (count or 0)
    if size > 4096 then charge_whole(max(size / 16, count / 4)) end
    return rep(...)
end

-- Whether the last item of a pattern is a repetition: it takes what there is, and nothing behind it can fail.
local function ends_in_loop(pattern)
    local place = len(pattern)
    while byte(pattern, place) == 41 do place = place - 1 end -- )
    if not find('*+-?', sub(pattern, place, place), 1, true) or place < 2 then return false end
    local escapes = 0
    while byte(pattern, place - 1 - escapes) == 37 do escapes = escapes + 1 end -- %
    return escapes % 2 == 0
end

-- What matching may cost: each repetition in the pattern may try all lengths at all places.
local function pattern_cost(text, pattern, is_anchored)
    if len(pattern) > PATTERN_BYTES_MAX then complain('pattern too long') end
    local size = len(text)
    if size < 16 and len(pattern) < 8 then return 0 end
    local _, loops = gsub(pattern, '[%*%+%-%?b]', '')
    local _, captures = gsub(pattern, '%(', '')
    if loops > 0 and ends_in_loop(pattern) then loops = loops - 1 end
    if is_anchored and loops > 0 then loops = loops - 1 end
    local power = 1
    while loops > 0 and power < 1e12 do
        power, loops = power * size, loops - 1
    end
    return (size * (1 + captures) + len(pattern)) * power / 4 + size * len(pattern) / 4
end

-- What looking for a text may cost: at each place all of it may be compared.
local function plain_cost(text, part)
    return len(text) / 16 + len(text) * len(part) / 128
end

for _, name in raw_ipairs { 'find', 'match', 'gmatch', 'gfind', 'gsub' } do
    local matcher = string[name]
    strings[name] = function(...)
        local text, pattern, third, fourth = ...
        if type(text) == 'string' and type(pattern) == 'string' then
            local cost
            if name == 'find' and (fourth or not find(pattern, '[%^%$%*%+%?%.%(%[%%%-]')) then
                cost = plain_cost(text, pattern)
            else
                cost = pattern_cost(text, pattern, byte(pattern) == 94 and sub(name, 1, 2) ~= 'gm' and name ~= 'gfind')
            end
            if name == 'gsub' and type(third) == 'string' then cost = cost + len(text) * (len(third) + 8) / 16 end
            if name == 'gsub' and type(third) == 'table' then cost = cost + len(text) * 2 end
            if cost > 64 then charge_whole(cost) end
        end
        return matcher(...)
    end
end

local tables = copy(table)

-- All items behind the place are moved; Lua moves them also from places before the first one.
local function charge_moves(tab, place)
    local moves = type(tab) == 'table' and type(place) == 'number' and #tab - place or 0
    if moves > 256 then charge_whole(moves / 2) end
end

function tables.insert(tab, ...)
    check_change(tab)
    if select('#', ...) > 1 then charge_moves(tab, (...)) end
    return insert(tab, ...)
end

function tables.remove(tab, ...)
    check_change(tab)
    charge_moves(tab, (...))
    return remove(tab, ...)
end

local function compare_long(one, other)
    check_time()
    return one < other
end

-- All comparisons are charged beforehand. Those of long texts cannot be: they are made here, where they can be stopped.
function tables.sort(tab, ...)
    check_change(tab)
    local count = type(tab) == 'table' and #tab or 0
    if count > 64 then
        local _, rounds = frexp(count)
        charge_whole(count * rounds * 2.5)
    end
    if (...) ~= nil then return sort(tab, ...) end
    for index = 1, count do
        local item = rawget(tab, index)
        if type(item) == 'string' and len(item) > LONG_BYTES then return sort(tab, compare_long) end
    end
    return sort(tab, ...)
end

-- Piece by piece, so that it can be stopped: numbers take long.
function tables.concat(...)
    local tab, between, first, last = ...
    if type(tab) ~= 'table' or last ~= nil or #tab <= PIECE_ITEMS or first ~= nil and type(first) ~= 'number' then
        return concat(...)
    end
    local pieces = {}
    for start = first or 1, #tab, PIECE_ITEMS do
        charge(PIECE_ITEMS)
        check_time()
        pieces[#pieces + 1] = concat(tab, between, start, min(start + PIECE_ITEMS - 1, #tab))
    end
    return concat(pieces, between)
end

-- --- math.random as Redis has it: a run that begins again gets the same numbers

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

-- --- replies of Redis as values of Lua

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
local shows_resp3, speaks_resp3 = false, false -- the protocol of the client, and what redis.setresp has chosen

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

-- --- the library `redis`

local function raise(text) raw_error({ err = text }, 0) end

local function arguments(...)
    local words, count = { ... }, select('#', ...)
    if count == 0 then return nil, 'ERR Please specify at least one argument for this redis lib call' end
    for index = 1, count do
        local word = words[index]
        if type(word) == 'number' then
            words[index] = format('%.17g', word)
        elseif type(word) ~= 'string' then
            return nil, 'ERR Lua redis lib command arguments must be strings or integers'
        end
    end
    return words, count
end

local function run_command(...)
    charge(COMMAND_COST)
    local words, count = arguments(...)
    if not words then return { err = count } end
    charge(count * 10)
    in_command = 2
    local begun = clock()
    local reply = py_call(speaks_resp3, unpack(words, 1, count))
    if not reply then stop('host') end
    local now = clock()
    local uncounted = min(max(now - begun - COMMAND_S, 0) * (1 - LONG_SHARE), long_left)
    long_left = long_left - uncounted
    ends_at = ends_at + COMMAND_S + uncounted
    in_command = 0
    if now > ends_at then stop('time') end
    if len(reply) > 1024 then charge(len(reply) / 16) end
    return (decode(reply, 1))
end

local redis = {}

function redis.pcall(...) return run_command(...) end

function redis.call(...)
    local value = run_command(...)
    if type(value) == 'table' and value.err then raw_error(value, 0) end
    return value
end

local function one_field(name, value, ...)
    if type(value) ~= 'string' or select('#', ...) > 0 then return { err = 'ERR wrong number or type of arguments' } end
    return { [name] = value }
end

function redis.status_reply(...) return one_field('ok', ...) end

-- The first word of the text is its code, with or without a dash in front; a text of one word gets the code ERR.
function redis.error_reply(...)
    local text = ...
    if type(text) ~= 'string' or select('#', ...) > 1 then return { err = 'ERR wrong number or type of arguments' } end
    local stop_at = find(text, '\0', 1, true)
    if stop_at then text = sub(text, 1, stop_at - 1) end
    if byte(text) == 45 then text = sub(text, 2) end
    local blank = find(text, ' ', 1, true)
    local code, message = 'ERR', text
    if blank then code, message = sub(text, 1, blank - 1), sub(text, blank + 1) end
    local first, last = 1, len(message)
    while first <= last and (byte(message, first) == 13 or byte(message, first) == 10) do first = first + 1 end
    while last >= first and (byte(message, last) == 13 or byte(message, last) == 10) do last = last - 1 end
    return { err = code .. ' ' .. sub(message, first, last) }
end

function redis.sha1hex(...)
    if select('#', ...) ~= 1 then raise('ERR wrong number of arguments') end
    local text = ...
    if type(text) == 'number' then text = tostring(text) end
    if type(text) == 'string' and len(text) > PIECE_BYTES then charge_whole(len(text) / COPIED_BYTES) end
    return py_sha1(type(text) == 'string' and text or '') or stop('host')
end

function redis.log(...)
    local count, level = select('#', ...), ...
    if count < 2 then raise('ERR redis.log() requires two arguments or more.') end
    if type(level) ~= 'number' or level < 0 or level > 3 then raise('ERR Invalid debug level.') end
    local words = {}
    for index = 2, count do
        local word = select(index, ...)
        words[#words + 1] = (type(word) == 'string' or type(word) == 'number') and tostring(word) or nil
    end
    py_log(level, concat(words, ' '))
end

function redis.setresp(...)
    if select('#', ...) ~= 1 then raise('ERR redis.setresp() requires one argument.') end
    local version = ...
    if version ~= 2 and version ~= 3 then raise('ERR RESP version must be 2 or 3.') end
    speaks_resp3 = version == 3
end

function redis.acl_check_cmd(...)
    local words, count = arguments(...)
    if not words then raise(count) end
    local verdict = py_acl(unpack(words, 1, count))
    if verdict == nil then raise('ERR Invalid command passed to redis.acl_check_cmd()') end
    return verdict
end

function redis.replicate_commands() return true end
function redis.set_repl(...)
    if select('#', ...) ~= 1 then raise('ERR redis.set_repl() requires one argument.') end
end
function redis.breakpoint() return false end
function redis.debug() end

for name, value in raw_pairs { LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3, REPL_NONE = 0, REPL_AOF = 1,
    REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3, REDIS_VERSION = constants.version, REDIS_VERSION_NUM = constants.number }
do redis[name] = value end

-- --- the globals

for name, make in raw_next, libraries do
    libraries[name] = make(constants.helpers, charge, complain)
end

local globals = copy(base)
globals.string, globals.table, globals.coroutine = protect(strings, NO_METATABLE), protect(tables, NO_METATABLE), protect(co, NO_METATABLE)
globals.math, globals.redis = protect(maths, NO_METATABLE), protect(redis, NO_METATABLE)
for name, library in raw_next, libraries do globals[name] = protect(library, NO_METATABLE) end
env = protect(raw_setmetatable(globals, { __index = missing }), NO_METATABLE)
globals._G = env
local functions = make_functions {
    raise = raise, protect = protect, copy = copy, no_metatable = NO_METATABLE, complain = complain, globals = globals,
    redis = redis,
}

local string_meta = raw_getmetatable('')
string_meta.__index, string_meta.__metatable = strings, protect({ __index = globals.string }, NO_METATABLE)

-- --- running

-- Adds to an error where it was raised: the innermost place in the text of the script.
local function on_error(problem)
    is_inside = false
    if stopped then return problem end
    if type(problem) ~= 'table' then
        problem = { err = 'ERR ' .. placed(tostring(problem)) }
    elseif type(rawget(problem, 'err')) ~= 'string' then
        problem = { err = 'ERR unknown error' }
    end
    local source, line = place()
    return { err = problem.err, source = source, line = line }
end

local function begin(limit, whole, resp3, start, values)
    stopped, spent, budget, allowance = nil, 0, limit, whole
    ends_at, in_command, long_left = clock() + limit / INSTRUCTIONS_PER_S, 0, LONG_S
    shows_resp3, speaks_resp3 = resp3, false
    seed(start)
    base_kb, is_dense = collect('count'), false
    debug_sethook(on_count, '', HOOK_INSTRUCTIONS)
    for index = 1, #values do
        if not is_dense and len(values[index]) > LARGE_KB * 64 then look_more_often() end
    end
end

local function finish(name, ok, value)
    debug_sethook()
    if not ok and value == 'not enough memory' and budget ~= math.huge then stopped = stopped or 'memory' end
    if stopped then return nil, stopped end
    if ok then return value end
    -- Where memory or the stack of C has ended there is no room for `on_error`, and the text is what is left.
    if type(value) ~= 'table' then return error_line('ERR ' .. tostring(value) .. ' script: ' .. name) end
    return error_line(value.err .. ' script: ' .. name .. ', on ' .. value.source .. (value.line and ':' .. value.line or '') .. '.')
end

local compiled, only_lines, count_of_compiled = {}, {}, 0
local api = {}

local function key_of(sha, is_library) return is_library and 'library ' .. sha or sha end

function api.knows(sha, is_library) return compiled[key_of(sha, is_library)] ~= nil end

-- Compiles a script, or the text of a library. Returns the error, or nil.
function api.compile(sha, text, is_library)
    local key = key_of(sha, is_library)
    stopped, spent, budget, ends_at = nil, 0, math.huge, math.huge
    local body, problem = compile(text, '@' .. (is_library and LIBRARY or SCRIPT), is_library and functions.env or env)
    if not body then return problem end
    if count_of_compiled >= constants.scripts_max then compiled, only_lines, count_of_compiled = {}, {}, 0 end
    compiled[key], count_of_compiled = body, count_of_compiled + 1
    local _, newlines = gsub(text, '^\n?[^\n]*$', '') -- of a text with a first line there is but its end
    only_lines[key] = newlines == 1 and (byte(text) == 10 and 2 or 1) or nil
    return nil
end

local function encoded(value)
    local out = {}
    encode(out, value, 0)
    return concat(out)
end

-- Runs `body`, and encodes what it returns. Returns success, and the reply or the error.
local function guarded(body)
    return raw_xpcall(function()
        is_inside = true
        local reply = encoded(body())
        is_inside = false
        return reply
    end, on_error)
end

-- Runs a script. Returns the encoded reply; or nil, and why it was stopped.
function api.run(sha, keys, values, limit, whole, resp3, start)
    running_name, only_line, present_env = SCRIPT, only_lines[sha], env
    globals.KEYS, globals.ARGV = keys, values
    begin(limit, whole, resp3, start, values)
    return finish(sha, guarded(compiled[sha]))
end

local function begin_library(key, limit, whole, resp3, start, values)
    running_name, only_line, present_env = LIBRARY, only_lines[key], functions.env
    begin(limit, whole, resp3, start, values)
end

-- Runs a function of a library, as `run` a script.
function api.call(sha, keys, values, limit, whole, resp3, start, name)
    local key = key_of(sha, true)
    begin_library(key, limit, whole, resp3, start, values)
    local ok, value = guarded(function()
        local registered = functions.load(compiled[key])[name]
        if not registered then raise('ERR Function not found') end
        return registered.callback(keys, values)
    end)
    functions.finish()
    return finish(name, ok, value)
end

-- Runs the text of a library, to see what it registers. Returns that; or the text of an error; or nil, and why it was stopped.
function api.load(sha, limit, whole)
    local key = key_of(sha, true)
    begin_library(key, limit, whole, false, 0, {})
    local found
    local ok, value = guarded(function() found = functions.load(compiled[key]) end)
    functions.finish()
    if not ok and not stopped and type(value) == 'table' then
        debug_sethook()
        return value.err
    end
    local _, reason = finish('', ok, value)
    if reason then return nil, reason end
    return ok and functions.described(found) or tostring(value)
end

function api.collect() collect() end

return api
