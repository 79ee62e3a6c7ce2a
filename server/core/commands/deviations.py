"""Where a node answers otherwise than Redis 7: the one table of known differences, each with its reason.

The manual page dyn-commands(7) shows it (server/manual.py), and the differential test (tests/wire/differential) excuses
exactly these differences: what stands here has been seen, and what is seen must stand here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Deviation:
    """One known difference.

    `commands` are the names of the commands, as `COMMAND` has them; with `*` in front, all that end so. `text` tells
    users what is different, and why. The patterns say which calls and replies the difference is about; they must be found
    in the words of the call, parted by blanks, in Redis' reply, and in ours, as they come over the wire.
    """

    commands: tuple[str, ...]
    text: str
    call: str = ""
    redis: str = ""
    ours: str = ""

    def is_of(self, name: str) -> bool:
        """Whether it is about that command."""
        return any(name == each or (each[:1] == "*" and name.endswith(each[1:])) for each in self.commands)


_ITSELF = "What they tell of the server, its connections and its clock is that of this node."
DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(("*|help",), "HELP lists the subcommands that there are here."),
    Deviation(
        ("command", "command|count", "command|docs", "command|info", "command|list"),
        "They tell of the commands that there are here. No command has the tips request_policy and response_policy: any "
        "node answers for the whole cluster, so that a client need not ask all nodes and join their answers.",
    ),
    Deviation(("client|id", "client|info", "client|list", "info", "time"), _ITSELF),
    Deviation(
        ("slowlog|get", "slowlog|len", "latency|doctor", "latency|histogram"),
        "They tell how long clients of this node have waited, quorum and commit included. Redis times its processor.",
    ),
    Deviation(
        ("latency|graph", "latency|history", "latency|latest", "latency|reset"),
        "The events are those of a node: command (quorum and commit included), commit, sync (with fsync = always) and "
        "event-loop. LATENCY GRAPH prints a line for each sample.",
    ),
    Deviation(
        ("monitor",),
        "It shows the commands of this node's clients as they begin, not those that other nodes relay, nor those that "
        "scripts run. Of very long commands it shows the first 4 KB, of a transaction the first 100 commands. A client "
        "that reads too slowly is cut, as a subscriber is (push_bytes_max).",
    ),
    Deviation(
        ("client|kill", "client|unblock"),
        "They act on the clients of this node only. Each node counts its clients from 1, so an id means another client on "
        "another node: send them over a connection to the node that has told the id.",
        redis="(?!)",  # no single node shows it, so it excuses no reply
    ),
    Deviation(
        ("client|pause", "client|unpause"),
        "They hold the clients of this node only: other nodes serve theirs, and what they relay here runs. Commands of "
        "operators, logins and CLIENT UNPAUSE are never held.",
    ),
    Deviation(
        ("debug",),
        "Four subcommands are there, for tests: OBJECT, RELOAD, SET-ACTIVE-EXPIRE and SLEEP. DEBUG SLEEP delays "
        "its own reply only. DEBUG RELOAD and SET-ACTIVE-EXPIRE change nothing.",
    ),
    Deviation(("role", "module|list"), "Every node is a master without replicas, and there are no modules."),
    Deviation(
        ("config|set", "config|rewrite"),
        "CONFIG SET takes the settings that a running node follows, which dyn.toml(5) lists, and of Redis' names "
        "protected-mode, timeout, slowlog-log-slower-than, slowlog-max-len, latency-monitor-threshold, "
        "notify-keyspace-events (one for all nodes) and requirepass (the user default on all nodes). The others are taken "
        "when the node starts: a name of Redis may be set to the value that it has (save to nothing). "
        "CONFIG REWRITE changes only lines of settings that CONFIG SET has changed.",
    ),
    Deviation(
        ("client|tracking",),
        "With NOLOOP a client that has changed a key is told of the next change by others, although it has not read the "
        "key again. In doubt (after a lost link, or if a replica got its change together with another one) it is told of "
        "its own change, too. After FLUSHALL and FLUSHDB clients are told key by key and then, by a null, of all.",
        call=r"(?i)noloop",
        ours=r"^\+OK",
    ),
    Deviation(
        ("config|get",),
        "requirepass is told as # and its SHA-256, because passwords are kept hashed.",
        ours=r"requirepass\r\n\$65\r\n#",
    ),
    Deviation(("acl|genpass",), "The password is random.", redis=r"^\$", ours=r"^\$"),
    Deviation(
        ("acl|cat",),
        "It tells of the commands that there are here, and has the category dyn: the commands of the operators of a "
        "cluster, all of them dangerous.",
        redis=r"^\*",
        ours=r"^\*",
    ),
    Deviation(
        ("acl|list", "acl|getuser"),
        "The rules about commands are shown as they were given, as Redis 7.2 does; Redis 7.0 makes up rules that allow "
        "the same commands.",
        redis=r"[+-]@all",
        ours=r"[+-]@all",
    ),
    Deviation(
        ("acl|log",),
        "It tells what the node that answers has refused. Entries have the number and the times that Redis 7.2 tells, and "
        "long names and keys are cut.",
        redis=r"client-info",
        ours=r"timestamp-last-updated",
    ),
    Deviation(
        ("acl|save",),
        "It answers OK: every change is stored as it is made, on all nodes. There is no ACL file, so ACL LOAD is refused.",
        redis=r"not configured to use an ACL file",
        ours=r"^\+OK",
    ),
    Deviation(
        ("command|getkeys", "command|getkeysandflags"),
        "They take a command of a single word, as Redis 7.2 does.",
        call=r"^\S+ \S+( \S*)?$",
    ),
    Deviation(
        ("command|getkeys", "command|getkeysandflags"),
        "They find the keys behind all STORE and STOREDIST of GEORADIUS and GEORADIUSBYMEMBER, because a user needs the "
        "right to the last one, which Redis does not check.",
        call=r"(?i)STORE\S* .*STORE",
    ),
    Deviation(
        ("sort", "sort_ro"),
        "The GET options of one call answer at most 1,048,576 values, because a short command could ask for more than the "
        "node has memory for.",
        ours="at most 1048576 values",
    ),
    Deviation(
        ("get", "getset", "getdel", "getex", "getrange", "substr", "mget", "set", "dump"),
        "PFCOUNT changes nothing, so the bytes of a HyperLogLog never have the count that Redis keeps in them.",
        redis=r"HYLL",
        ours=r"HYLL",
    ),
    Deviation(
        ("dump",),
        "Fields and elements come in the order of their bytes, and only strings of up to 16 KB, 64 KB of one payload, are "
        "compressed: Redis reads both. Fields with an expiry of their own make a payload of Redis 7.4.",
        redis=r"^\$\d+\r\n[\x02\x04\x05\x10]",
    ),
    Deviation(
        ("command|getkeys", "command|getkeysandflags"),
        "They refuse a number of keys that is no plain integer: Redis reads the digits of `+1` or `02`, though the command "
        "itself refuses it.",
        redis=r"^\*",
        ours=r"^-ERR Invalid arguments",
    ),
    Deviation(
        ("zrange", "zrangestore", "*bylex", "zlexcount"),
        "If the scores of the members differ, a range by bytes has other members: Redis leaves open which.",
        call=r"(?i)lex",
        redis=r"^[*:]",
        ours=r"^[*:]",
    ),
    Deviation(
        ("zadd", "zincrby", "zrange", "zscore"),
        "A score of -0 is stored as 0. Redis does the same in short sorted sets, and keeps the sign in long ones.",
        redis=r"-0\r\n",
        ours=r"[,\n]0\r\n",
    ),
    Deviation(
        ("lpos",),
        "A RANK of -2^63 is refused, as in Redis 7.2.",
        call="-9223372036854775808",
        ours="must be greater than -9223372036854775807",
    ),
    Deviation(
        ("zrank", "zrevrank"),
        "They take the option WITHSCORE, as Redis 7.2 does.",
        redis=r"^-ERR wrong number of arguments",
    ),
    Deviation(
        ("flushall", "flushdb"),
        "They take the word CONFIRM. FLUSHALL requires it, because it deletes the data of all applications, unless the "
        "setting flushall is true; FLUSHDB requires it if the setting flushdb is false.",
        call=r"(?i)confirm",
    ),
    Deviation(
        ("swapdb",),
        "It is done once every node that is not known to be down has confirmed it, and answers TIMEOUT if one does not. "
        "WATCH of any key in one of the two databases makes EXEC answer null, also if neither has the key.",
        ours=r"^-TIMEOUT",
    ),
    Deviation(
        ("client|reply",),
        "It is refused between MULTI and EXEC, as replies of the whole connection cannot be dropped in the middle of one.",
        ours=r"^-ERR Command not allowed inside a transaction",
    ),
    Deviation(
        ("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "function|load"),
        "A script that takes longer than script_ms_max, or more memory than it may, is stopped with an error, and on keys "
        "of one slot nothing that it wrote is kept. In Redis it runs until it is killed. While it runs, other clients are "
        "served; those that would change its keys are answered BUSY after 5 s, or request_timeout_ms if that is less.",
        ours=r"the script was stopped",
    ),
    Deviation(
        ("function|kill", "script|kill"),
        "They end all scripts, or functions, that run for long, on all nodes that can be reached, also before others are "
        "answered BUSY. A script that has written on keys of one slot can be killed: nothing of it is kept.",
        ours=r"^-(NOTBUSY|BUSY|UNKILLABLE)|^\+OK",
    ),
    Deviation(
        ("script|debug",),
        "There is no debugger for scripts: only NO succeeds.",
        ours=r"^-ERR this server has no debugger",
    ),
    Deviation(
        ("publish", "spublish"),
        "They count the subscriptions at the node that answers, and reach those of all nodes. A RESP3 client that "
        "publishes to a channel of its own gets the reply first, as in Redis 7.2.",
        ours=r"^:",
    ),
    Deviation(
        ("pubsub|channels", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels", "pubsub|shardnumsub"),
        "They answer for the clients of all nodes, also for sharded channels, which every node serves. A node that hangs "
        "is left out.",
        ours=r"^[*:]",
    ),
    Deviation(
        ("script|exists", "script|flush"),
        "They are about the scripts of all nodes. A node that hangs is not waited for: what only that node knows does not "
        "exist for now, and a node that was down keeps what it knows.",
        redis="(?!)",  # one node alone does not show it, so it excuses no reply
    ),
    Deviation(
        ("blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin"),
        "A timeout of 2^63 milliseconds or more is out of range, as in Redis 7.2. Redis 7.0 says that it is negative, for "
        "its number overflows.",
        redis=r"^-ERR timeout is negative",
        ours=r"^-ERR timeout is out of range",
    ),
    Deviation(
        ("xadd", "xdel", "xtrim"),
        "A stream without entries does not exist, and the id of a removed last entry is not remembered, so XADD may be "
        "given a smaller one, and an XADD to an emptied stream tells the event new. With ~ entries are removed by the "
        "hundred. There are no consumer groups.",
    ),
    Deviation(
        ("dump", "restore"),
        "Of a stream they carry the entries, and no consumer groups or ids of deleted entries. To RESTORE a stream without "
        "entries leaves no key. Of two entries of one id, which both sides of a partition have added, RESTORE keeps the "
        "second one.",
        redis=r"^\$\d+\r\n\x13",
    ),
    Deviation(
        ("xread",),
        "In a script, BLOCK answers at once what is there, as in a transaction. Redis refuses it.",
        redis=r"not allowed with BLOCK option from scripts",
    ),
    Deviation(
        ("wait",),
        "It also returns when no more replicas are to come; what it cannot be sure of it does not count.",
        ours=r"^:",
    ),
    Deviation(
        ("waitaof",),
        "Of the disks on which all writes are, one counts as the local one, whichever it is. It also returns when no more "
        "are to come; a node that is down or has not synced counts as one disk less, if it may have had a write.",
        ours=r"^\*",
    ),
    Deviation(
        ("object|encoding", "object|refcount"),
        "They follow from the content: a short value or a number that APPEND, SETRANGE, SETBIT or INCRBYFLOAT made is not "
        "`raw` or `embstr`, and a collection that has shrunk is small again.",
        redis=r"raw|embstr|hashtable|skiplist|^:1\r",
        ours=r"int|embstr|listpack|intset|^:2147483647\r",
    ),
    Deviation(
        ("memory|doctor", "memory|malloc-stats", "memory|stats", "memory|usage"),
        "They tell what is known here: MEMORY USAGE counts the bytes of a key and its stored record, MEMORY STATS has the "
        "memory of the process, its cache of records, clients and hints, MEMORY DOCTOR compares these with their limits, "
        "and there is no allocator to ask.",
        redis=r"^[^-]",
        ours=r"^[^-]",
    ),
    Deviation(
        ("object|idletime",),
        "It counts from the last write of a key, for reads are not recorded.",
        redis=r"^:",
        ours=r"^:",
    ),
    Deviation(
        ("bitfield",),
        "SET of a number near -2^63 with OVERFLOW SAT takes the least number of a signed type: Redis takes the largest, "
        "for its own test overflows.",
        call=r"(?i)sat.* i\d+ .*-922337203685477\d{4}",
    ),
    Deviation(
        ("flushall", "flushdb"),
        "They take the word CONFIRM. FLUSHALL requires it, because it deletes the data of all applications, unless the "
        "setting flushall is true; FLUSHDB requires it if the setting flushdb is false.",
        ours=r"^-ERR FLUSHALL",
    ),
)

# What COMMAND INFO and COMMAND DOCS tell otherwise, by command and field.
FACTS: Mapping[tuple[str, str], str] = {
    ("xadd", "arguments"): "the signs *, = and ~ are told as values",
    ("xtrim", "arguments"): "the signs = and ~ are told as values",
    ("xread", "arguments"): "the block of keys and ids is told as two arguments",
    ("xread", "keys"): "their places are told as unknown: they depend on how many there are",
    ("command|getkeys", "arity"): "-3, as from Redis 7.2 on",
    ("command|getkeysandflags", "arity"): "-3, as from Redis 7.2 on",
    ("debug", "arguments"): "they are told",
    ("dbsize", "flags"): "it asks all nodes, so it is not fast",
    ("dbsize", "categories"): "it asks all nodes, so it is not fast",
    ("client|kill", "arguments"): "MAXAGE is there, as in later releases",
    ("client|list", "arguments"): "ID is told as in Redis 7.2",
    ("command|getkeys", "arguments"): "they are told, as in Redis 7.2",
    ("command|getkeysandflags", "arguments"): "they are told, as in Redis 7.2",
    ("sort", "arguments"): "the name of ALPHA is alpha",
    ("sort_ro", "arguments"): "the name of ALPHA is alpha",
    ("zrank", "arity"): "-3, as from Redis 7.2 on",
    ("zrevrank", "arity"): "-3, as from Redis 7.2 on",
    ("zrank", "arguments"): "WITHSCORE is there, as in Redis 7.2",
    ("zrevrank", "arguments"): "WITHSCORE is there, as in Redis 7.2",
    ("config|get", "arguments"): "the block of one argument is left out",
    ("psubscribe", "arguments"): "the block of one argument is left out",
    **{
        (name, "flags"): "a script may call it, where it does not wait, as from Redis 7.2 on"
        for name in ("blmove", "blpop", "brpop", "brpoplpush", "bzpopmax", "bzpopmin")
    },
    ("flushall", "arguments"): "the word CONFIRM",
    ("flushdb", "arguments"): "the word CONFIRM",
}


def deviation_of(name: str, call: Sequence[bytes], redis: bytes, ours: bytes) -> Deviation | None:
    """The known difference that explains why a call was answered otherwise; None if there is none."""
    words = b" ".join(call)
    return next(
        (
            each
            for each in DEVIATIONS
            if each.is_of(name) and _found(each.call, words) and _found(each.redis, redis) and _found(each.ours, ours)
        ),
        None,
    )


def _found(pattern: str, data: bytes) -> bool:
    return _compiled(pattern).search(data) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.DOTALL)
