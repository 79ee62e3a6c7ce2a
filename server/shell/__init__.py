"""Thin asyncio around the core: process.py starts a node, server.py runs its turns, connections.py and links.py are its
sockets, admission.py and memory.py bound what clients take of it, durability.py is its fsync policy, directory.py its
identity on disk. No task, future or timer per request.
"""
