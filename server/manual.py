"""`python -m server.manual`: prints the manual page of the commands of a node, dyn-commands(7), from the command table."""

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
Every node accepts every command, over RESP2 or RESP3 (HELLO 3), and answers for the whole cluster. A command behaves as
Redis 7 documents it, with the differences described here. An unknown command gets Redis' own error text.
.SS Quorums
A write is answered once W replicas have stored it, a read once R replicas have answered. DYN.QUORUM sets both for a
connection. Every error begins with a code. NOQUORUM, TIMEOUT and DISKFULL tell
.BR got ,
.BR wanted ,
.B hinted
and the
.B outcome
(unwritten, maybe-written, unread). BADCONTEXT, TOOMANYSIBLINGS, BUSY, CLUSTERDOWN (from a
node that leaves or is no member any more) and ERR say what is wrong. ERR internal error is a bug in the node: its log has
the traceback under the word that follows.
.SS Standalone or cluster
HELLO and INFO say that a node is a standalone Redis. So libraries and tools use plain clients, whose commands over
keys of several slots all work here. Cluster clients work, too: CLUSTER SLOTS, SHARDS and NODES are answered. For
.B redis\\-cli \\-\\-cluster
and other programs that check, the setting
.B cluster_mode
makes HELLO and INFO say that it is a cluster. A connection that speaks HTTP (POST or Host:) is closed.
.SS Order
Commands of one connection take effect in their order, also when they are pipelined.
.SS SET with NX, XX or GET, SETNX, GETSET, GETDEL, DEL, EXPIRE, PERSIST
These read with a quorum and decide by what they read. Those of one key run at its coordinator, one after the other. But
while nodes disagree about which nodes are alive, a key may have two coordinators, and then two clients may both succeed
with SET NX. A later release makes these commands linearizable.
.SS Keys of any slots
MGET, MSET, DEL, UNLINK, EXISTS and TOUCH accept keys of any slots. Each key has its own quorum, and the first error is the
answer. They are not atomic.
.SS SCAN, KEYS, DBSIZE, RANDOMKEY
These answer for the whole cluster, each key once, at any node; a cursor is valid at every node. A page of SCAN may be
empty although the cursor is not 0. KEYS reads the whole key space, and other clients are served meanwhile. DBSIZE reads
only partitions in which keys expire or are written at that moment. A pattern has at most
.B pattern_bytes_max
bytes.
.SS FLUSHALL
It deletes every key on every node, and requires the word CONFIRM unless the setting
.B flushall
allows it without.
.SS Limits
Sizes are in bytes, and each limit is a setting of the node (CONFIG GET shows them). A command over a limit gets an error. A
request that is too large gets an error before its connection is closed. Large values never break a connection: beyond
.B values_in_flight_bytes_max
a node stops to read from the clients that send them until other commands are answered.
"""

# The settings whose limits a client may reach, and what each bounds.
_LIMITS = (
    ("key_bytes_max", "a key"),
    ("value_bytes_max", "a value"),
    (
        "record_bytes_max",
        "all siblings of a key together: beyond it TOOMANYSIBLINGS, until a write with a context, or SET",
    ),
    ("siblings_max", "siblings of a key, in number: beyond it TOOMANYSIBLINGS"),
    ("request_bytes_max", "a request, with all its arguments"),
    ("arguments_max", "arguments of a request, in number"),
    ("inline_bytes_max", "an inline request"),
    ("pipeline_max", "commands of a connection in flight, in number: more are read once these are answered"),
    (
        "values_in_flight_bytes_max",
        "values in flight in the whole cluster; each node accepts an equal share from its clients",
    ),
    ("client_buffers_bytes_max", "unfinished requests of all clients of a node"),
    ("clients_max", "connections of a node, in number"),
)


def page() -> str:
    """The page as roff source."""
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
