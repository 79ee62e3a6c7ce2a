"""What a command does while the network is divided, in one sentence for each family; dyn-commands(7) shows it.

Theory. What becomes of changes that two sides of a partition make at the same time follows from the kinds of entries that a
command writes (records/kinds.py), and from how it finds out what to write. So the sentence follows from what the command
table says: the group of the command, and whether it only reads, writes without reading, or reads before it writes.
"""

from __future__ import annotations

from server.core.commands.spec import READ, WRITE, CommandSpec

# Commands that add a number: their changes add up, whatever their group.
_ADDING = ("incr", "decr", "incrby", "decrby", "incrbyfloat", "hincrby", "hincrbyfloat", "zincrby")
# Commands over all keys, by group `generic` or `server`.
_OVER_ALL = ("scan", "keys", "dbsize", "randomkey", "flushall", "flushdb")

READS = "A side with a read quorum answers, without what the other side has written."
WRITES = "A side with a write quorum takes it. If both sides do, the newest value is read afterwards."
SIBLINGS = "A side with a write quorum takes it. If both sides do, both values are siblings afterwards."
DECIDES = (
    "A side with both quorums runs it, without what the other side has written. If both sides do, the newest value is read "
    "afterwards."
)
ADDS = "A side with both quorums runs it. What both sides add adds up."
DELETES = "A side with both quorums runs it. What the other side writes meanwhile stays."
_BY_GROUP = {
    "hash": "A side with both quorums runs it. Afterwards each field has its newest value.",
    "set": "A side with both quorums runs it. What a side adds is there afterwards, whatever the other side removes.",
    "list": "A side with both quorums runs it. Afterwards the items of both sides are there; both may have popped one.",
    "stream": "A side with both quorums runs it. Afterwards the entries of both sides are there.",
    "sorted-set": "A side with both quorums runs it. Afterwards each member has its newest score.",
    "hyperloglog": "A side with both quorums runs it. Afterwards it counts what either side has added.",
    "dyn": SIBLINGS,
}
_BY_GROUP["geo"] = _BY_GROUP["sorted-set"]
_TRANSACTIONS = ("exec", "watch")
DECIDES_ALL = (
    "A side with both quorums runs the transaction, without what the other side has written, and its watches see nothing "
    "of that. If both sides do, of each command becomes what would become of it alone."
)
_DELETING = ("del", "unlink", "getdel", "flushall", "flushdb")


def partition_sentence(spec: CommandSpec) -> str:
    """What happens to a command during a partition; empty for one that needs no keys."""
    is_over_all = spec.name in _OVER_ALL
    if spec.name in _TRANSACTIONS:
        return DECIDES_ALL
    if not is_over_all and (not spec.has_keys() or not spec.needs_data()):
        return ""
    if spec.name in _DELETING:
        return DELETES
    if spec.overlap == READ or is_over_all or "readonly" in spec.flags.split():
        return READS
    if spec.name in _ADDING:
        return ADDS
    return _BY_GROUP.get(spec.group) or (WRITES if spec.overlap == WRITE else DECIDES)
