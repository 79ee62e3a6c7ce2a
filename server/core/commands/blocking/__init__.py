"""Blocking pops and moves: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN, BZPOPMAX and BZMPOP.

`commands` parses them and begins them at the node of the client (core/waiting/blocked.py). `tries` has the attempts, which
run at the coordinator of a key, and what puts elements back.
"""
