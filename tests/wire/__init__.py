"""Real processes, real sockets, stock clients. cluster.py runs nodes, load.py writes to them and remembers what was
acknowledged; every test checks afterwards that no node's log shows a traceback.
"""
