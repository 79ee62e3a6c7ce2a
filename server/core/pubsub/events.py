"""Which keyspace events a command causes (https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/).

Theory. The coordinator of a write knows the command and the key's record before and after it. The name of the event is
that of the command's family, in the table below; a key that a command has emptied causes `del`, too, and a new one `new`.
Commands over several keys run as steps, each a command of its own at the coordinator of its key, which causes its event.
DYN.REPLACE, the step that gives a key its new content, is told the event of the command that it is a step of.

A stream that has lost its last entry is not told of as deleted: in Redis it stays, empty, and tells nothing but `xdel` or
`xtrim`. A client that follows streams by these events is written for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from server.core.records import versions
from server.core.records.views import View

# The classes of events, by the characters of the setting, in the order in which CONFIG GET shows them.
CLASSES: Final = "g$lshzxetdnKEm"
GENERIC, STRING, LIST, SET, HASH, ZSET, EXPIRED, _EVICTED, STREAM, _MODULE, NEW, KEYSPACE, KEYEVENT, MISS = (
    1 << bit for bit in range(len(CLASSES))
)
ALL: Final = sum(1 << CLASSES.index(letter) for letter in "g$lshzxetd")
EVENT_WORD: Final = b"EVENT"  # in DYN.REPLACE: the name of the event follows

_BY_CLASS: Final[Mapping[int, str]] = {
    STRING: "set setex:set psetex:set setnx:set getset:set mset:set msetnx:set bitop:set dyn.set:set append setrange "
    "incr:incrby decr:incrby incrby decrby:incrby incrbyfloat setbit bitfield:setbit pfadd dyn.pfmerge:pfadd",
    LIST: "lpush lpushx:lpush rpush rpushx:rpush dyn.lpush:lpush dyn.rpush:rpush lpop rpop lset linsert lrem ltrim "
    "blpop:lpop brpop:rpop sortstore",
    HASH: "hset hmset:hset hsetnx:hset hincrby hincrbyfloat hdel hgetdel:hdel hexpire hpexpire:hexpire "
    "hexpireat:hexpire hpexpireat:hexpire hpersist hsetex:hset hgetex:hexpire",
    SET: "sadd srem spop sinterstore sunionstore sdiffstore",
    ZSET: "zadd zincrby:zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax "
    "bzpopmin:zpopmin bzpopmax:zpopmax zunionstore "
    "zinterstore zdiffstore zrangestore geoadd:zadd geosearchstore georadiusstore",
    STREAM: "xadd xdel xtrim",
    GENERIC: "restore persist rename_from rename_to move_to copy_to dyn.remove:rename_from",
}
_EVENTS: Final = {
    word.partition(":")[0]: (kind, word.partition(":")[2] or word)
    for kind, words in _BY_CLASS.items()
    for word in words.split()
}
# The events of commands with several keys that their step DYN.REPLACE is told.
REPLACES: Final = {
    "sort": "sortstore", "rename": "rename_to", "renamenx": "rename_to", "move": "move_to", "copy": "copy_to",
    "georadius": "georadiusstore", "georadiusbymember": "georadiusstore",
}  # fmt: skip
_MAKES_NEW: Final = frozenset(("rename_to", "copy_to"))  # Redis removes the key before
_EXPIRY_WORDS: Final = frozenset((b"EX", b"PX", b"EXAT", b"PXAT"))
_SETS_EXPIRY: Final = frozenset(("setex", "psetex"))
_MOVES: Final = frozenset(("lmove", "blmove", "rpoplpush", "brpoplpush"))
_QUIET: Final = frozenset(("sadd", "zadd", "zincrby", "geoadd"))  # without an event if nothing has changed
_OF_STREAMS: Final = frozenset(("xadd", "xdel", "xtrim"))
_DELETES: Final = frozenset(("del", "unlink", "getdel", "dyn.del", "flushall", "flushdb"))
_EXPIRES: Final = frozenset(("expire", "pexpire", "expireat", "pexpireat", "getex"))

Event = tuple[int, bytes]  # its class and its name


def flags_of(text: str) -> int | None:
    """The classes of the setting `notify-keyspace-events`; None if it has another character. `A` stands for most."""
    flags = 0
    for letter in text:
        if letter != "A" and letter not in CLASSES:
            return None
        flags |= ALL if letter == "A" else 1 << CLASSES.index(letter)
    return flags


def text_of(flags: int) -> str:
    """The setting as CONFIG GET shows it."""
    shown = CLASSES if flags & ALL != ALL else "AKEm"  # without `n`, as in Redis 7.0
    return "".join([each for each in shown if each == "A" or flags & flags_at(each)])


def flags_at(letter: str) -> int:
    """The class of one character."""
    return 1 << CLASSES.index(letter)


def events_of(args: Sequence[bytes], old: bytes | None, record: bytes, now_ms: int) -> list[Event]:
    """The events of a write of one key: the command that has written it, its record before, and its record now."""
    args = _command_in(args)
    name = _name_of(args)
    existed, after = versions.visible(old, now_ms) is not None, versions.visible(record, now_ms)
    found: list[Event] = [] if existed else [(NEW, b"new")]
    if name == "xadd":
        return [*found, *_added(old, record, now_ms)]
    if after is None:
        return _when_gone(name, args) if existed else []
    if name in _EXPIRES:
        return [*found, (GENERIC, b"expire" if after.expires_at_ms else b"persist")]
    if name == "dyn.replace":
        name = args[-1].decode("latin-1") if args[-2] == EVENT_WORD else "restore"
        if name in _MAKES_NEW:
            found = [(NEW, b"new")]
    if name in _MOVES:
        return [*found, *_moved(name, args)]
    if name in _QUIET and _shows_the_same(args[2:], View(old, now_ms), View(record, now_ms)):
        return found
    if name == "setbit" and old is not None and versions.value_of(old, now_ms) == versions.value_of(record, now_ms):
        return found
    if name == "zadd" and any(word.upper() == b"INCR" for word in args[2:-2]):
        found.append((ZSET, b"zincr"))
    elif name in _EVENTS:
        kind, event = _EVENTS[name]
        found.append((kind, event.encode()))
    has_expiry = name in _SETS_EXPIRY or (name == "set" and any(word.upper() in _EXPIRY_WORDS for word in args[3:]))
    return [*found, (GENERIC, b"expire")] if has_expiry else found


def _added(old: bytes | None, record: bytes, now_ms: int) -> list[Event]:
    """The events of XADD, which has trimmed the stream if its first entry is another one, or none is left at all."""
    first, former = (next(View(each, now_ms).items(), None) for each in (record, old))
    trimmed = first is None or (former is not None and former[0] != first[0])
    return [(STREAM, b"xadd"), (STREAM, b"xtrim")] if trimmed else [(STREAM, b"xadd")]


def _moved(name: str, args: Sequence[bytes]) -> list[Event]:
    """The events of a list from which an element was moved; also those of its arrival, if it has come to the same list."""
    from_end, to_end = (word.upper() for word in args[3:5]) if name in ("lmove", "blmove") else (b"RIGHT", b"LEFT")
    popped = [(LIST, b"lpop" if from_end == b"LEFT" else b"rpop")]
    return popped if args[1] != args[2] else [(LIST, b"lpush" if to_end == b"LEFT" else b"rpush"), *popped]


def _command_in(args: Sequence[bytes]) -> Sequence[bytes]:
    """The command that an attempt for a waiting client runs (DYN.TRY key home number FIRST|AGAIN command …), which its
    coordinator is told when the client is another node's. Any other command is itself."""
    return [args[5], args[1], *args[6:]] if args[0] == b"DYN.TRY" else args


def _name_of(args: Sequence[bytes]) -> str:
    """The name of a command; of one that pops from the first of several keys, that of the pop."""
    name = args[0].decode("latin-1").lower()
    if name in ("blmpop", "bzmpop"):  # timeout numkeys key … word
        word = args[3 + int(args[2])].decode("latin-1").lower()
        return {"left": "lpop", "right": "rpop", "min": "zpopmin", "max": "zpopmax"}[word]
    return name


def _shows_the_same(fields: Sequence[bytes], old: View, new: View) -> bool:
    """Whether none of these elements has changed. (A write that adds what is there already changes the record: it beats a
    removal that has not seen it.)"""
    return all(old.get(field) == new.get(field) for field in fields)


def _when_gone(name: str, args: Sequence[bytes]) -> list[Event]:
    """The events of a command that has deleted or emptied a key."""
    gone: list[Event] = [(GENERIC, b"del")]
    if name in _DELETES or name in _EXPIRES or name in ("dyn.replace", "set"):
        return gone
    if name == "dyn.remove":
        return [(GENERIC, b"rename_from")]
    if name in _MOVES:
        return [*_moved(name, args), *gone]
    if name in _EVENTS:
        kind, event = _EVENTS[name]
        return [(kind, event.encode())] if name in _OF_STREAMS else [(kind, event.encode()), *gone]
    return gone
