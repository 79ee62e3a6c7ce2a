"""Scripts: the interpreter of Lua, and what it may reach.

runtime.py        one interpreter; a run, its budget and its memory
workers.py        threads for long scripts, with an interpreter each
tail_calls.py     keeps the lines of errors
numbers.py        what the Lua libraries ask Python for
lua/sandbox.lua   the room in which scripts run, and the library `redis`
lua/texts.lua     `string` and `table`, charged for what they may cost
lua/random.lua    `math`, with the random numbers of Redis
lua/replies.lua   replies as values of Lua, and values as replies
lua/functions.lua what libraries of functions see while they are loaded
lua/*.lua         the other libraries: cjson, cmsgpack, struct, bit
"""
