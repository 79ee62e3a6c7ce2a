-- The libraries `string` and `table` for scripts: as Lua has them, but each call is charged for what it may cost.
--
-- Theory. The functions of Lua are written in C, where the hook that counts instructions does not run. So each function whose
-- work grows with more than the length of its arguments tells `charge_whole` beforehand what it may cost at most. Work that
-- cannot be told beforehand is done in pieces, with a look at the clock after each.
local tools = ...
local copy, complain, check_change = tools.copy, tools.complain, tools.check_change
local charge, charge_whole, check_time = tools.charge, tools.charge_whole, tools.check_time
local raw_ipairs, type, tonumber, select, rawget = ipairs, type, tonumber, select, rawget
local format, byte, sub, rep, gsub, len = string.format, string.byte, string.sub, string.rep, string.gsub, string.len
local concat, insert, remove, sort, find = table.concat, table.insert, table.remove, table.sort, string.find
local min, max, frexp = math.min, math.max, math.frexp

local COPIED_BYTES = 8 -- that a function in C changes or digests in the time of one instruction
local PIECE_BYTES, PIECE_ITEMS = 4096, 500 -- what is done between two looks at the clock
local LONG_BYTES = 1024 -- comparing texts of this length is worth a look at the clock
local PATTERN_BYTES_MAX = 4096 -- the matcher recurses once an item, on the stack of C

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

return strings, tables
