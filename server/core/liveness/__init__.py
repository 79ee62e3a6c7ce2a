"""Liveness: who is alive, as one node sees it.

liveness.py       the table of verdicts, fed with messages, broken links and gossip
gossip_table.py   what a gossip message carries, who watches whom, and how news spreads
"""
