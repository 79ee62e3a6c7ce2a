"""Requests: clients' reads and writes, from the coordinator to the replicas and back.

relays.py         sends a command to the node that coordinates its key, and brings the reply back
relay_rows.py     the commands that this node has relayed
relay_sinks.py    where the replies to relayed commands go: at the coordinator, and at the node that retries a command
relay_ages.py     how old a relay is when it arrives
silences.py       how long a coordinator may be silent until it is given up
unanswered.py     the error for a command whose coordinator has not answered
groups.py         requests of one turn that ask the same owners travel as one group
reads.py          quorum reads
read_groups.py    a group of reads, and which answers it still needs
key_reads.py      one read for all commands of a turn that write the same key
hedging.py        which owners a read asks, and when it asks one more
read_repair.py    sends records to owners that lack them, as the answers to a read have shown
digests.py        digests of records, for reads at nodes of earlier versions
write_groups.py   a group of writes, and which confirmations are still awaited
write_targets.py  which nodes a group of writes is sent to
draft_table.py    how the commands of a transaction or a script share drafts: changes whose records are not made yet
writes.py         quorum writes, and stand-ins for owners that do not confirm
patching.py       sends the owners that hold the former version of a large record only what has changed
replica.py        the replica's side of reads and writes
checkpoints.py    rewrites large records that have many patch rows as whole records, in slices
large_values.py   which large values to stage before the command or message that brings them is handled
page_answers.py   the replica's side of scans: skeletons of records, and counts

A *turn* handles what has arrived, commits it as one batch, then sends messages and replies (shell/turn.py). A
docstring that begins with HOT belongs to a function that runs for nearly every request. A *sink* receives the replies of
commands (base/sinks.py). A *plan* says which owners of a partition a
request asks (base/routing.py). A *dot* names one write: the actor that made it and its counter (records/versions.py).
"""
