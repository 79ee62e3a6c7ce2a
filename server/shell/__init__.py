"""Thin asyncio around the core: process.py starts a node, server.py runs its turns, connections.py and links.py are its
sockets, durability.py its fsync policy, directory.py its identity on disk. No task, future or timer per request.
"""
