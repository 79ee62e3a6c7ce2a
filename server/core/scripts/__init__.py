"""Scripts: what an engine is to the core, and the first line of a script.

engine.py    what the core asks of an engine, which runs Lua (server/scripting/)
shebang.py   the first line of a script, and what its flags say
"""
