"""`python -m server.manual`: prints the manual page of the commands of a node, dyn-commands(7), from the command table."""

from __future__ import annotations

import sys

from server.core.base.config import Config
from server.core.commands.command_arguments import shown_usage
from server.core.commands.deviations import DEVIATIONS, FACTS
from server.core.commands.partitions import partition_sentence
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
.SS Partitions
While the network is divided, each side serves by its own. Under each command stands what then happens to it: a write quorum
is W nodes of the side, which keep hints for the owners on the other side; a read quorum is R of the key's owners, or the
nodes that stand in for them. After the partition the replicas exchange what they have, and all of them have the same.
.SS Order
Commands of one connection take effect in their order, also when they are pipelined.
.SS SET with NX, XX or GET, SETNX, GETSET, GETDEL, DEL, EXPIRE, PERSIST
These read with a quorum and decide by what they read. Those of one key run at its coordinator, one after the other. But
while nodes disagree about which nodes are alive, a key may have two coordinators, and then two clients may both succeed
with SET NX. A later release makes these commands linearizable.
If the coordinator is lost before it has answered, the next owner runs the command again, so that no write fails: DEL, HSET,
SADD, ZADD, ZREM and all others that have the same effect twice. In that moment such a command may answer 0 although it did
what it was told. Others (INCR, SET NX, SPOP, APPEND) answer TIMEOUT, and it is unknown whether they ran.
.SS Keys of any slots
MGET, MSET, DEL, UNLINK, EXISTS and TOUCH accept keys of any slots. Each key has its own quorum, and the first error is the
answer. They are not atomic. The same holds for MSETNX, BITOP and LCS. MSETNX looks at all keys, then sets each as SETNX
does. If another client sets one of the keys in between, its value stays, the other keys are set, and the answer is 0. BITOP
and LCS read each source at a moment of its own; BITOP then sets the target as SET does.
RENAME, RENAMENX and COPY write the target first; then RENAME removes what it has read from the source. Nothing is lost if
it ends in between, and what is written to the source meanwhile stays there, under the old name. SORT reads each key that
BY and GET name by a quorum of its own.
.SS MULTI, EXEC, WATCH
If all keys of a transaction are of one slot (a {tag} makes them so), EXEC runs it atomically at the coordinator of the
slot. Its commands see each other, nobody sees a part of them, and other commands of these keys come before it or after it.
Every replica stores what it writes as one batch, and EXEC answers once W of them have. If the coordinator is lost, the next
owner runs the transaction again if it has only reads, or only writes that have the same effect twice (SETEX, HSET, DEL).
Otherwise (INCR, a push, SET NX, reads beside writes) EXEC answers TIMEOUT, and it is unknown whether it ran: but it ran
whole or not at all. So it does if a watched key has changed by the second run, perhaps by the first one.
.PP
If the keys are of several slots, the setting
.B multi_slots
decides.
.B relaxed
(the default) runs each command in order by its own quorum, as a pipeline would. That is not isolated: another client may
see a part of it, or write in between. If the client's node ends in the middle, the commands so far have run. If there is no
quorum for one of them, only that one is an error. If the coordinator of LPUSH or RPUSH is lost, and another command of the
transaction removes something (HDEL, ZREM, LREM, DEL), the push is run again: a move loses nothing, and the element may be
there twice. Without such a command a push answers TIMEOUT.
.B strict
answers CROSSSLOT, as a Redis cluster does, and none runs. The same holds for commands about all keys (KEYS, FLUSHALL),
for scripts, each of which is whole by itself, for SORT with keys of another slot, and for SELECT. A transaction of more
than 1,000 commands is run as one of several slots, too (with
.B strict
it is refused): as one atomic run it would hold up its node. In all cases no command runs if EXEC is refused.
.PP
WATCH remembers the version of a key, as a quorum has it. EXEC compares it in the atomic run, if the key is of the slot of
the transaction, and else by a quorum read just before. So of clients that WATCH, read and write one key by transactions of
its slot, none overwrites what another one has written. This holds while all nodes agree who coordinates the key. In the
moment in which a coordinator is lost, or on both sides of a partition, two such transactions may both succeed; then their
writes merge. A later release makes them linearizable. EXEC may answer null although nobody has written, but only after a
version was cleaned up in that moment.
.PP
Repairs bring keys to a replica one by one, so one that has missed a transaction may have a part of it for a while; reads
with a quorum do not see that. WATCH needs a version that knows it on all nodes.
.SS Scripts
A script whose keys are of one slot runs atomically at their coordinator, as a transaction does: on what a quorum has,
isolated, and with one batch on every replica for all that it writes. Keys of the slot that the call does not name are read
as well; then the script begins anew. It may begin anew, too, because it takes long (see below), or because another client
has written one of its keys. Only its last run counts, so it should not depend on how often it runs. If its keys are of
several slots, or if it calls a command about all keys (KEYS, SCAN, FLUSHALL, PUBLISH), then with
.B multi_slots
=
.B relaxed
(the default) each of its commands runs by its own quorum, in order: other clients may write in between, and if it is
stopped, or its node ends, the commands so far have run. With
.B strict
the answer is CROSSSLOT. Between MULTI and EXEC a script makes the transaction one over several slots.
.PP
All commands of a script are checked for the user who has called it. Blocking commands answer as if they had waited.
.PP
A script begins within a turn of its node, while other clients wait. If it takes more than
.B script_instructions_max
there (each command counts as 1,000), or more processor time than these should take (8 ms), or if its commands go through a
large collection, then it begins anew in a thread, of which each node has two, and other clients are served meanwhile.
Scripts that find no thread free wait for one for
.B request_timeout_ms
and are then answered BUSY, as is the 65th that waits. A key of its slot that a script in a thread names late is read then,
and the script goes on. Over several slots a script goes on in a thread after 16 commands.
.PP
While a script runs in a thread, commands that decide by what its keys hold wait for it: all but plain writes and reads.
Once it has run for 5 s, or for
.B request_timeout_ms
if that is less, they are answered BUSY, as in Redis. Reads see what was stored before. A plain write (SET) does not wait:
the script begins anew, and is answered BUSY after five times. SCRIPT KILL and FUNCTION KILL end what runs in threads of all
nodes that can be reached, at any time, unless it has written over several slots, or has ended and is being stored
(UNKILLABLE). A script that has run for
.B script_ms_max
is stopped with an error; in Redis it runs until it is killed. (Over several slots the time of its commands does not count.)
So is one that needs more than
.B script_memory_bytes_max
or calls a single function (to match a pattern, to sort a table) that could take longer than the script may. On keys of one
slot nothing that a stopped script wrote is kept.
.PP
Commands of one script, or of one transaction, that change or read single fields of a large collection, or the ends of a
list, cost no more than for a small one: its record is copied once for some 240 changes. Commands that go through the
collection make the record first: LREM, LINSERT, LTRIM, SPOP, ZPOPMIN, ZREMRANGEBYSCORE and its kin, XADD with MAXLEN, and
most that read more than single fields. While keyspace events are wanted each command makes it.
.PP
A node asks the others for a script that it does not know. Scripts are kept in memory, up to
.B scripts_bytes_max
a node; one that no node has any more is answered with NOSCRIPT, as after a restart of Redis. A script has 1 MiB at most.
SELECT holds for the rest of the script. Numbers of math.random begin anew with each call. There is no debugger. Scripts
need a version that knows them at the coordinator of their keys.
.SS Functions
FUNCTION LOAD, DELETE, FLUSH and RESTORE change the libraries of the whole cluster, on any node and without a quorum: the
answer comes once all nodes that can be reached have the change, and the others get it when they can be. Libraries survive
restarts. If two operators change the same library on two sides of a partition, the later change holds on all nodes; if they
give two libraries a function of the same name, that of the later library is called. FCALL and FCALL_RO run as scripts do.
The text of a library runs before each call, so what one call leaves in a local variable of the library the next one does
not find; in Redis it does, on the same node. All libraries together have
.B libraries_bytes_max
bytes at most. Nodes of earlier versions do not get them.
.SS Lists
After a partition a list has the items of both sides: those that were pushed at one end stand in turn. A removal takes only
what it has seen, and LSET keeps what the other side has set, too. While all nodes see each other, each item is popped by
one client. On two sides of a partition an item may be popped twice, but none is lost: LMOVE and RPOPLPUSH write the
destination before they remove from the source.
.SS BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN, BZPOPMAX, BZMPOP
Clients that wait for a key are served in the order in which they came, whichever node they are connected to, and wait on
when the key gets another coordinator. While all is well, each element is delivered to one client. An element that was
popped for a client that has gone, or whose node has, is put back at its end of the list. So a delivery is at least once:
if a node dies, freezes or is cut off in the very moment, an element may be delivered again. None is lost: the coordinator
keeps it on its disk until it is delivered. A worker that must not lose an element when it fails itself uses BLMOVE.
BLMOVE writes the destination before it removes from the source, and if the coordinator dies in between it may have moved an
element that its client was not told of.
A client that waits keeps waiting while there is no quorum. A pop whose removal fewer than W replicas confirm is delivered
all the same. Commands of another client that come right behind a push may see the element before the waiting client has
got it, and may even pop it: then the client waits on, at its place. In a transaction or a script these commands do not
wait. A node that stops closes the connections of its waiting clients.
.SS Publish/subscribe
A message that is published through any node reaches the subscribers of all nodes that can be reached, at most once, and is
stored nowhere. The messages of one connection to a channel stay in order, and what the connection wrote before has happened
when they arrive. Sharded channels are channels of their own, and SPUBLISH works through any node. A subscriber that does
not read is cut: once
.B push_bytes_max
(32 MiB) are unread, or more than
.B push_soft_bytes_max
(8 MiB) for
.B push_soft_ms
(60,000).
.SS Keyspace notifications
CONFIG SET notify\\-keyspace\\-events on any node holds for all of them, until all are stopped; the setting
.B notify_keyspace_events
is what they begin with. The coordinator of a write publishes its events, so each change causes them once while no node
fails, and subscribers of all nodes get them, mostly just before or after the reply. A write that was answered with an error
may have caused them. Expired keys are told once by the node that has written the expiry, if it has run since. A
command that writes two keys tells of the target first: rename_to, then rename_from, which stands for move_from, too. There
are no events of evicted keys and modules. MSETNX, SMOVE and other commands that look at several keys before they write may
tell of missed keys (m), too.
.SS CLIENT TRACKING
A write through any node tells each client that has read the key at any other one. Every replica that changes a record tells
of it, so a client may be told of one change more than once, and with NOLOOP of its own changes, too. A key that a client
reads while it changes is told behind the reply. When a link between nodes breaks or opens, a node is lost or back, or the
layout changes, clients are told to drop all that they have (null). What expires, fields included, is told as it does. All
keys that the call of a script names are tracked, and none that it reaches otherwise. A node remembers
.B tracked_keys_max
(1,000,000) keys; past it those remembered first are told as changed.
.SS WAIT, OBJECT, MEMORY
Each write is answered once W replicas have it. If WAIT asks for more of them, it waits, up to its timeout, until all
writes of the connection since its last WAIT are on so many replicas beside the coordinator, or until no more are to come.
Its answer is never too high. It may be too low, because the writes of other clients in that time count, too, and it is
W - 1 if a member does not answer.
OBJECT ENCODING answers what Redis would choose for the present content. IDLETIME counts from the last write, for reads are
not recorded, and nobody counts accesses for FREQ. MEMORY USAGE counts the key and its stored record, without the caches.
.SS APPEND, SETRANGE, SETBIT, BITFIELD, GETEX
They read with a quorum and write the whole value again, as SET does, with its expiry. So of two that run on both sides of a
partition the later one is read, and the other one stays beside it as a sibling until the next write (DYN.GET shows both).
LCS refuses values whose table would take Redis more than 512 MiB, with Redis' error.
.SS SCAN, KEYS, DBSIZE, RANDOMKEY
These answer for the whole cluster, each key once, at any node; a cursor is valid at every node. A page of SCAN may be
empty although the cursor is not 0. KEYS reads the whole key space, and other clients are served meanwhile. DBSIZE reads
only partitions in which keys expire or are written at that moment. A pattern has at most
.B pattern_bytes_max
bytes.
.SS XADD, XRANGE, XREAD and other commands of streams
After a partition a stream has the entries of both sides, in the order of their ids. Two sides may choose the same id: then
two entries have it. A removal takes only what it has seen. A client that waits for entries (XREAD BLOCK) is
told of the first stream that has some. Streams have no consumer groups, and are not in what DUMP, dyn import and dyn export
can move.
.SS FLUSHALL, FLUSHDB
FLUSHALL deletes every key on every node, and requires the word CONFIRM unless the setting
.B flushall
allows it without. FLUSHDB deletes the keys of one database.
.SS SWAPDB
Keys stay where they are: the nodes share which database each number stands for, and exchange two of these. It answers
OK once every node that is not known to be down has done so. What has begun before, a transaction or a script included,
goes to the former database as a whole. If some node does not confirm it within
.BR request_timeout_ms ,
the answer is TIMEOUT and says what is known; a second SWAPDB would swap them back. A node that was away learns of it
before it serves clients again; one that was suspended may serve the former database for some milliseconds. Swaps at
the same moment are all done, in one order. In a partition each side swaps for itself, and afterwards the swaps of
both sides are done, in the order of their times: no swap that was answered OK is undone, unless the other side has done
more than 128 since. A swap makes EXEC answer null to clients
that have watched keys in one of the two databases, and lets clients that track keys drop all of them. It takes effect
for clients that wait in blocking commands within some turns, 256 of them in each. The database whose keys
were those of number 0 before the first swap is served fastest, whatever its number is now. More than 256 swaps within
request_timeout_ms and one second are answered with BUSY. SWAPDB is refused while some
node runs a version without it, or a node is staged to join that may; and once databases are swapped, such a node
cannot join. While two members cannot reach each other, though both are up, a swap by way of one of them is done and
answered with TIMEOUT.
Going back: a member that goes back to a version without SWAPDB serves each number as it was before the first swap. So
swap all databases back before you go back; DYN.CLUSTER STATUS has
.I databases
while some are swapped: for each number, the one whose keys it had before the first swap. If a member
runs such a version while databases are swapped, dyn cluster status is degraded and names it.
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
    (
        "pipeline_max",
        "GETs and SETs of a connection in flight, in number (an eighth of it while the node is busy, or with other "
        "commands): more are read once these are answered",
    ),
    (
        "values_in_flight_bytes_max",
        "values in flight in the whole cluster; each node accepts an equal share from its clients",
    ),
    ("client_buffers_bytes_max", "unfinished requests of all clients of a node"),
    ("transaction_commands_max", "commands between MULTI and EXEC, in number"),
    ("transaction_bytes_max", "commands between MULTI and EXEC, and the keys that a client watches"),
    ("transaction_keys_max", "keys of a transaction of one slot, and keys that a client watches, in number"),
    ("clients_max", "connections of a node, in number"),
    ("script_instructions_max", "what a script computes before it goes on in a thread, in instructions of Lua"),
    ("script_ms_max", "time that a script in a thread takes, in milliseconds"),
    ("script_memory_bytes_max", "memory of a script, with its garbage"),
    ("libraries_bytes_max", "the texts of all libraries of functions"),
    ("scripts_bytes_max", "texts of scripts that a node keeps: past it those used longest ago are forgotten"),
)


def page() -> str:
    """The page as roff source."""
    groups: dict[str, list[CommandSpec]] = {}
    for spec in COMMANDS:
        groups.setdefault(spec.group, []).append(spec)
    lines = [_PREFACE.rstrip()]
    for name, what in _LIMITS:
        lines += [".TP", f'.BR {name} "  {getattr(Config(), name)}"', escape(what)]
    for group in sorted(groups):
        lines.append(f".SH {group.upper()} COMMANDS")
        for spec in sorted(groups[group], key=lambda spec: spec.name):
            for each in spec.subcommands or (spec,):
                lines += _entry(each)
    lines += [*_differences(), ".SH SEE ALSO", ".BR dyn (1)"]
    return "\n".join(lines) + "\n"


def _entry(spec: CommandSpec) -> list[str]:
    usage = f"{spec.name.replace('|', ' ').upper()} {shown_usage(spec.arguments)}".strip()
    lines = [".TP", f".B {escape(usage)}", escape(spec.summary)]
    during = partition_sentence(spec)
    return [*lines, ".br", f".I Partition:\n{escape(during)}"] if during else lines


def _differences() -> list[str]:
    """What is answered otherwise than by Redis: the table that the differential test excuses."""
    lines = [".SH DIFFERENCES FROM REDIS 7.0", "Everything else is answered byte for byte as by Redis 7.0."]
    for text in dict.fromkeys(each.text for each in DEVIATIONS):
        names = dict.fromkeys(name for each in DEVIATIONS if each.text == text for name in each.commands)
        shown = ", ".join(name.replace("*|", "... ").replace("|", " ").upper() for name in names)
        lines += [".TP", f".B {escape(shown)}", escape(text)]
    lines += [".TP", ".B COMMAND INFO, COMMAND DOCS", "Some facts are others:"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for (name, field), reason in FACTS.items():
        reasons.setdefault((field, reason), []).append(name.replace("|", " ").upper())
    for (field, reason), commands in reasons.items():
        lines += [".br", escape(f"{field} of {', '.join(commands)}: {reason}")]
    return lines


def escape(text: str) -> str:
    """Text for roff."""
    return text.replace("\\", "\\\\").replace("-", "\\-")


if __name__ == "__main__":
    sys.stdout.write(page())
