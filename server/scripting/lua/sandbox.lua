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
-- their arguments only (patterns, string.rep, table.sort) tell `charge` beforehand what they may cost (texts.lua). What is left are many
-- instructions that are each linear in something large (a string of 1 MB, a table of 100,000): so a run has a limit of
-- processor time as well, for itself and its commands, since nobody else is served meanwhile. The hook looks at the clock,
-- more often once a script has much in its memory. The host gives the clock, which counts this thread alone: the engine of
-- the storage works in others.
--
-- In a worker (scripting/workers.py) a run has no such limits, and its clock shows infinity once it is to end. A look at that
-- needs the interpreter of Python, which the event loop may be using: it waits up to 5 ms for it. So the hook looks each
-- LOOK_S of processor time, by a clock of C.
--
-- Source: redis 7.0 script_lua.c, eval.c.
local py_call, py_sha1, py_log, py_acl, clock, libraries, constants, makers = ...

local debug_sethook, getinfo = debug.sethook, debug.getinfo
local raw_pcall, raw_xpcall, raw_load, raw_error = pcall, xpcall, load, error
local raw_resume, raw_create, running = coroutine.resume, coroutine.create, coroutine.running
local raw_next, raw_pairs, raw_ipairs, raw_setmetatable, raw_getmetatable = next, pairs, ipairs, setmetatable, getmetatable
local raw_rawset, setfenv, type, tostring, tonumber, select, unpack = rawset, setfenv, type, tostring, tonumber, select, unpack
local collect, process_clock = collectgarbage, os.clock
local format, byte, sub, gsub, len, find = string.format, string.byte, string.sub, string.gsub, string.len, string.find
local concat = table.concat

local HOOK_INSTRUCTIONS = 250
local DENSE_INSTRUCTIONS = 20 -- between two looks at the clock, once there is something large to work on
local LARGE_KB = 1024
local WORKER_INSTRUCTIONS, WORKER_DENSE_INSTRUCTIONS = 2500, 250 -- the same in a worker
local LOOK_S = 0.005 -- processor time between two looks of a worker at its own clock
local COMMAND_COST = 1000
local INSTRUCTIONS_PER_S = 5e7 -- half of what simple instructions reach on a slow machine
local COPIED_BYTES = 8 -- that a function in C changes or digests in the time of one instruction
local COMPILED_COST = 8 -- of a byte of a text that is compiled
local PIECE_BYTES = 4096 -- what is compiled between two looks at the clock
local NO_LIMIT = 1e300 -- of instructions; infinity stands for compiling
local STOP = {}
local stopped = nil -- why the script must end: 'budget', 'whole', 'time', 'memory' or 'host'
local spent, budget = 0, math.huge
local allowance = math.huge -- what one function in C may cost
local ends_at = math.huge -- what the clock may show
local next_look = nil -- in a worker: what the clock of C shows at the next look
local sparse, dense = HOOK_INSTRUCTIONS, DENSE_INSTRUCTIONS -- instructions between two calls of the hook

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
    if cost > allowance then stop('whole') end
    charge(cost)
end

local function check_time()
    if next_look then
        local now = process_clock()
        if now < next_look then return end
        next_look = now + LOOK_S
    end
    if clock() > ends_at then stop('time') end
end

local is_inside = false -- the script itself runs: only then may the hook raise an error
local base_kb, is_dense = 0, false

local on_count

local function look_more_often()
    is_dense = true
    debug_sethook(on_count, '', dense)
end

function on_count()
    if not is_inside then return end
    if not is_dense and collect('count') - base_kb > LARGE_KB then look_more_often() end
    charge(is_dense and dense or sparse)
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
    debug_sethook(thread, on_count, '', is_dense and dense or sparse)
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

-- --- the parts in files of their own

local tools = {
    copy = copy, complain = complain, check_change = check_change,
    charge = charge, charge_whole = charge_whole, check_time = check_time,
}
local strings, tables = makers.texts(tools)
local maths, seed = makers.random(tools)
local decode, encode, error_line, set_protocols = makers.replies()
local shows_resp3, speaks_resp3 = false, false -- the protocol of the client, and what redis.setresp has chosen

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
    if not next_look and clock() > ends_at then stop('time') end
    local reply = py_call(speaks_resp3, unpack(words, 1, count))
    if not reply then stop('host') end
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
    set_protocols(shows_resp3, speaks_resp3)
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
local functions = makers.functions {
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

-- `limit`: instructions; false in a worker, which has none.
local function begin(limit, whole, resp3, start, values)
    stopped, spent, budget, allowance = nil, 0, limit or NO_LIMIT, whole
    if limit then
        ends_at, next_look, sparse, dense = clock() + limit / INSTRUCTIONS_PER_S, nil, HOOK_INSTRUCTIONS, DENSE_INSTRUCTIONS
    else
        ends_at, next_look, sparse, dense = 0, 0, WORKER_INSTRUCTIONS, WORKER_DENSE_INSTRUCTIONS
    end
    shows_resp3, speaks_resp3 = resp3, false
    set_protocols(shows_resp3, speaks_resp3)
    seed(start)
    base_kb, is_dense = collect('count'), false
    debug_sethook(on_count, '', sparse)
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
