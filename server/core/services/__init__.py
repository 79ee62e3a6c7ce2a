"""Services: the parts of a node as commands, operators' documents and answers to other nodes use them.

services.py       the object that they all get: one attribute for each part, and the few calls that need two parts
construction.py   builds the parts of a node in the order in which they depend on each other
clients.py        the connections of clients: their sessions, and those that close at the end of the turn
process.py        what only the process around the node knows: its facts for INFO, its connections to other nodes

This room stands above the rooms of the parts and below those of operators and commands. So no part knows the node, and no
command does.
"""
