"""Scripts: what an engine is to the core, and the first line of a script, and libraries of functions.

engine.py    what the core asks of an engine, which runs Lua (server/scripting/)
workers.py   the same of a worker, a thread that runs long scripts
shebang.py   the first line of a script, and what its flags say
library.py   the text of a library of functions: its first line
libraries.py
             the document of all libraries of a cluster
"""
