"""Liveness: the failure detector, which decides which nodes are alive, as one node sees it.

liveness.py       the table of verdicts, fed with messages, broken links and gossip
verdict.py        the rule that gives a verdict, and its times
gossip_table.py   the content of gossip messages: which node watches which, and how news spreads
"""
