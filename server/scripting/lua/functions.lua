-- Libraries of functions: what the text of a library sees while it is loaded, and how it registers its functions.
--
-- Theory. The text of a library runs before each call of one of its functions, from the start, so that a call does not depend
-- on the calls before it, as a script does not. While it runs it sees the table `redis` alone, with `register_function`; the
-- functions see what scripts see, but for KEYS and ARGV, which are their arguments. The names of globals are looked up when
-- they are used, so there is one table of globals for both, whose content changes in between.
--
-- Source: redis 7.0 function_lua.c, functions.c.
local tools = ...
local raise, protect, copy, no_metatable, complain = tools.raise, tools.protect, tools.copy, tools.no_metatable, tools.complain
local type, tostring, select, next, lower, find, insert = type, tostring, select, next, string.lower, string.find, table.insert
local setmetatable, raw_next = setmetatable, next

local FLAGS = { 'no-writes', 'allow-oom', 'allow-stale', 'no-cluster', 'allow-cross-slot-keys' }
local BAD_NAME = 'Library names can only contain letters, numbers, or underscores(_) and must be at least one character long'
local registered = nil -- while a text is loaded: what it has registered

local function text_of(value)
    if type(value) == 'number' then return tostring(value) end
    return type(value) == 'string' and value or nil
end

-- Returns the known flags of a list, by name; nil if it has others.
local function flags_in(list)
    local found, index = {}, 1
    while list[index] ~= nil do
        local word = text_of(list[index])
        word = word and lower(word)
        local is_known = false
        for _, flag in raw_next, FLAGS do is_known = is_known or flag == word end
        if not is_known then return nil end
        found[word], index = true, index + 1
    end
    return found
end

local readers = {
    function_name = function(to, value)
        to.name = text_of(value)
        return not to.name and 'function_name argument given to redis.register_function must be a string' or nil
    end,
    description = function(to, value)
        to.description = text_of(value)
        return not to.description and 'description argument given to redis.register_function must be a string' or nil
    end,
    callback = function(to, value)
        to.callback = type(value) == 'function' and value or nil
        return not to.callback and 'callback argument given to redis.register_function must be a function' or nil
    end,
    flags = function(to, value)
        if type(value) ~= 'table' then
            return 'flags argument to redis.register_function must be a table representing function flags'
        end
        to.flags = flags_in(value)
        return not to.flags and 'unknown flag given' or nil
    end,
}

local function named_arguments(given)
    if type(given) ~= 'table' then
        return nil, 'calling redis.register_function with a single argument is only applicable to Lua table '
            .. '(representing named arguments).'
    end
    local into = { flags = {} }
    for key, value in raw_next, given do
        local name = text_of(key)
        if not name then return nil, 'named argument key given to redis.register_function is not a string' end
        local reader = readers[lower(name)]
        if not reader then return nil, 'unknown argument given to redis.register_function' end
        local problem = reader(into, value)
        if problem then return nil, problem end
    end
    if not into.name then return nil, 'redis.register_function must get a function name argument' end
    if not into.callback then return nil, 'redis.register_function must get a callback argument' end
    return into
end

local function arguments(...)
    local count, first, second = select('#', ...), ...
    if count < 1 or count > 2 then return nil, 'wrong number of arguments to redis.register_function' end
    if count == 1 then return named_arguments(first) end
    local name = text_of(first)
    if not name then return nil, 'first argument to redis.register_function must be a string' end
    if type(second) ~= 'function' then return nil, 'second argument to redis.register_function must be a function' end
    return { name = name, callback = second, flags = {} }
end

local function register_function(...)
    if not registered then raise('ERR redis.register_function can only be called on FUNCTION LOAD command') end
    local given, problem = arguments(...)
    if not given then raise('ERR ' .. problem) end
    if not find(given.name, '^[%w_]+$') then raise('ERR ' .. BAD_NAME) end
    if registered[given.name] then raise('ERR Function already exists in the library') end
    registered[given.name] = given
end

-- --- what a library sees

local shown = copy(tools.globals)
local for_functions = copy(tools.redis)
for _, name in raw_next, { 'breakpoint', 'debug', 'replicate_commands' } do for_functions[name] = nil end
shown.redis = protect(for_functions, no_metatable)

local function missing(_, name)
    complain("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
end

local while_loading = { register_function = register_function, log = for_functions.log }
for name, value in raw_next, for_functions do
    if find(name, '^LOG_') or find(name, '^REDIS_VERSION') then while_loading[name] = value end
end
local loading = { redis = protect(setmetatable(while_loading, { __index = missing }), no_metatable) }

local present = shown
local env = protect(setmetatable({}, {
    __index = function(_, name)
        local value = present[name]
        if value == nil then missing(nil, name) end
        return value
    end,
}), no_metatable)
shown._G, shown.KEYS, shown.ARGV = env, nil, nil

local functions = { env = env }

-- Runs the text of a library; returns what it has registered, by name. `finish` must be called if that raises an error.
function functions.load(body)
    registered, present = {}, loading
    body()
    return functions.finish()
end

-- The text is over: from now on its functions run.
function functions.finish()
    local found = registered
    registered, present = nil, shown
    return found
end

-- The functions as the host reads them: name, description or false, flags.
function functions.described(found)
    local rows = {}
    for name, each in raw_next, found do
        local flags = {}
        for _, flag in raw_next, FLAGS do if each.flags[flag] then insert(flags, flag) end end
        insert(rows, { name, each.description or false, flags })
    end
    return rows
end

return functions
