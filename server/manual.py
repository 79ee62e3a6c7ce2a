"""`python -m server.manual`: the manual page of the commands that nodes speak, dyn-commands(7), out of their table."""

from __future__ import annotations

import sys

from server.core.base.config import Config
from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS

_PREFACE = """\
.TH DYN-COMMANDS 7 "" "dyn" "dyn manual"
.SH NAME
dyn-commands \\- the Redis commands that a dyn node speaks
.SH DESCRIPTION
Every node takes every command, over RESP2 or RESP3 (HELLO 3), and answers for the whole cluster. A command behaves as
Redis 7 documents it, with the differences that stand here. What a node does not know gets Redis' own error text.
.SS Quorums
A write is answered when W replicas have it on disk, a read when R have answered; DYN.QUORUM sets both for a connection.
Errors begin with a code: NOQUORUM, TIMEOUT and DISKFULL tell
.BR got ,
.BR wanted ,
.B hinted
and the
.B outcome
(unwritten, maybe-written, unread); BADCONTEXT, TOOMANYSIBLINGS, BUSY, CLUSTERDOWN (of a
node that leaves or is no member any more), ERR say what is wrong. ERR internal error is a fault of the node's own: its
log has the traceback under the word that follows.
.SS What it is taken for
HELLO and INFO call a node a standalone Redis, so that libraries and tools stay with plain clients, whose commands over
keys of several slots all work here. Cluster clients are not kept off: CLUSTER SLOTS, SHARDS and NODES are answered. For
.B redis\\-cli \\-\\-cluster
and others that look, the setting
.B cluster_mode
makes both say that it is a cluster. A connection that speaks HTTP (POST or Host:) is closed.
.SS Order
Commands of one connection take effect in their order, also when they are pipelined.
.SS SET with NX, XX or GET, SETNX, GETSET, GETDEL, DEL, EXPIRE, PERSIST
These read with a quorum and decide on what they find. Those of one key run at its coordinator, one after the other; but
while nodes disagree about who is alive a key may have two coordinators, and then two clients may both succeed with SET
NX. A later release makes them linearizable.
.SS Keys of any slots
MGET, MSET, DEL, UNLINK, EXISTS and TOUCH take keys of any slots; each key has its own quorum, and the first error is the
answer. They are not atomic.
.SS SCAN, KEYS, DBSIZE, RANDOMKEY
speak for the whole cluster, each key once, from any node; a cursor may be taken to another node. A page of SCAN may be
empty though the cursor is not 0. KEYS reads the whole key space, and other clients are served meanwhile; DBSIZE reads only
partitions in which keys expire or are written at that moment. A pattern holds at most
.B pattern_bytes_max
bytes.
.SS FLUSHALL
deletes every key on every node, and wants the word CONFIRM unless the setting
.B flushall
allows it without.
.SS Limits
Sizes are in bytes, and each limit is a setting of the node (CONFIG GET tells them). Over a limit of one command the answer
is an error; a request that is too large as such is answered with an error before the connection ends. A connection never
breaks because values are large: past
.B values_in_flight_bytes_max
a node reads no more from the clients that send them until others are answered.
"""

# Settings that a client may meet, and what each bounds.
_LIMITS = (
    ("key_bytes_max", "a key"),
    ("value_bytes_max", "a value"),
    (
        "record_bytes_max",
        "all siblings of a key together: TOOMANYSIBLINGS beyond, until a write with a context, or SET",
    ),
    ("siblings_max", "siblings of a key, in number: TOOMANYSIBLINGS beyond"),
    ("request_bytes_max", "a request, with all its arguments"),
    ("arguments_max", "arguments of a request, in number"),
    ("inline_bytes_max", "an inline request"),
    ("pipeline_max", "commands of a connection in flight, in number: more are read when these are answered"),
    (
        "values_in_flight_bytes_max",
        "values in flight in the whole cluster; each node takes an equal share from its clients",
    ),
    ("client_buffers_bytes_max", "unfinished requests of all clients of a node"),
    ("clients_max", "connections of a node, in number"),
)


def page() -> str:
    """The page in roff."""
    groups: dict[str, list[CommandSpec]] = {}
    for spec in COMMANDS:
        groups.setdefault(spec.group, []).append(spec)
    lines = [_PREFACE.rstrip()]
    for name, what in _LIMITS:
        lines += [".TP", f'.BR {name} "  {getattr(Config(), name)}"', _escape(what)]
    for group in sorted(groups):
        lines.append(f".SH {group.upper()} COMMANDS")
        for spec in sorted(groups[group], key=lambda spec: spec.name):
            for each in spec.subcommands or (spec,):
                lines += _entry(each)
    lines += [".SH SEE ALSO", ".BR dyn (1)"]
    return "\n".join(lines) + "\n"


def _entry(spec: CommandSpec) -> list[str]:
    usage = f"{spec.name.replace('|', ' ').upper()} {spec.arguments}".strip()
    return [".TP", f".B {_escape(usage)}", _escape(spec.summary)]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("-", "\\-")


if __name__ == "__main__":
    sys.stdout.write(page())
