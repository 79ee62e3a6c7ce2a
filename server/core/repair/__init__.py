"""Repair: the owners of a partition become equal, and damaged records are fetched from other owners.

hint_replay.py       delivers hints to their owners
exchange.py          makes two nodes equal by their hash trees: the side that leads
differences.py       the ranges in which they differ
exchange_answers.py  the side that answers
anti_entropy.py      compares this node with every other owner continually
tasks.py             the repair tasks of operators (`dyn repair`), done by jobs.py on the owners, or by one_key.py
scrub.py             reads and verifies every record, continually
verification.py      the same for a repair task
mending.py           fetches damaged records from the other owners
"""
