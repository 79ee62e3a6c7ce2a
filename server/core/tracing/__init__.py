"""Tracing: the way of one request through relay, coordinator and replicas, with times.

spans.py        what one node notes of a traced request, turn by turn
traces.py       the spans of this node, and how messages of a traced request are marked
way.py          the spans of all nodes as one document
"""
