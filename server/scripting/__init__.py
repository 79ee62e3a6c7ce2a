"""Scripts: the interpreter of Lua, and what it may reach.

runtime.py        one interpreter; a run, its budget and its memory
tail_calls.py     keeps the lines of errors
numbers.py        what the Lua libraries ask Python for
lua/sandbox.lua   the room in which scripts run, and the library `redis`
lua/functions.lua what libraries of functions see while they are loaded
lua/*.lua         the other libraries: cjson, cmsgpack, struct, bit
"""
