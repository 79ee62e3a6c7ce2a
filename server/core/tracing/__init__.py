"""Tracing: which nodes a request passes (relay, coordinator, replicas), and when.

spans.py        what one node notes of a traced request, turn by turn
traces.py       the spans of this node, and how messages of a traced request are marked
assembly.py     the spans of all nodes as one document
"""
