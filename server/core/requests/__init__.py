"""Requests: clients' reads and writes, from the coordinator to the replicas and back.

relays.py         a command for another coordinator travels there, and its reply back
groups.py         the reads or writes of one turn that ask the same owners travel as one
reads.py          quorum reads, and read repair
digests.py        what nodes of an earlier version are asked with
writes.py         quorum writes, and the stand-ins of owners that do not confirm
replica.py        the other side: merge, acknowledge, tell
page_answers.py   the other side of scans: skeletons of what may be live, and counts
"""
