"""Requests: clients' reads and writes, from the coordinator to the replicas and back.

relays.py         sends a command to the node that coordinates its key, and brings the reply back
groups.py         requests of one turn that ask the same owners travel as one group
reads.py          quorum reads
read_repair.py    sends records to owners that a read has found to lack them
digests.py        digests of records, for reads at nodes of earlier versions
writes.py         quorum writes, and stand-ins for owners that do not confirm
replica.py        the replica's side of reads and writes
page_answers.py   the replica's side of scans: skeletons of records, and counts
"""
