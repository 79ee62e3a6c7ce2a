"""Scripts: the interpreter of Lua, and what it may reach.

runtime.py        one interpreter; a run, its budget and its memory
numbers.py        what the Lua libraries ask Python for
lua/sandbox.lua   the room in which scripts run, and the library `redis`
lua/*.lua         the other libraries: cjson, cmsgpack, struct, bit
"""
