"""PURE: every decision of a node. No asyncio, sockets, files, clocks or chance of its own; see server/__init__.py.

Promises and the room that keeps each: P1 node.py (take: commit, then speak) with shell/durability.py; P2 clock.py; P3
versions.py; P4 quorum.py; P5 groups.py and sinks.py; P9 layout.py; P10 config.py; P11 versions.py, records.py and
protocol/frames.py.
"""
