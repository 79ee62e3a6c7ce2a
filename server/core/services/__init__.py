"""Services: the parts of a node as commands, operators' documents and answers to other nodes use them.

services.py       the object that they all get: one attribute for each part, and the few calls that need several parts
construction.py   builds the parts of a node in the order in which they depend on each other
sharing.py        a document that all nodes keep, as this node has it: users.py, functions.py and numbering.py
                  stand on it
clients.py        the connections of clients: their sessions, and those that close at the end of the turn
process.py        what only the process around the node knows: its facts for INFO, its connections to other nodes

This package imports the packages of the parts. The packages of operators and commands import this package. So neither a
part nor a command depends on the node (node.py).
"""
