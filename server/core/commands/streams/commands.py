"""The table of the stream commands."""

from __future__ import annotations

from functools import partial

from server.core.commands.key_specs import KeySpec
from server.core.commands.shared_drafts import if_few
from server.core.commands.spec import ALONE, EXCLUSIVE, READ, CommandSpec
from server.core.commands.streams.edits import xadd, xdel, xtrim
from server.core.commands.streams.queries import xlen, xrange, xrevrange
from server.core.commands.streams.waiting import streams_of, xread
from server.core.commands.typed import always, reading, updating
from server.core.records.kinds import STREAM

_RANGE = (
    "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 "
)
_TRIMS = "UPDATE instead of INSERT because of the optional trimming feature"
_query = partial(CommandSpec, group="stream", overlap=READ, keys=(1, 1, 1), since="5.0.0")
_change = partial(CommandSpec, group="stream", overlap=EXCLUSIVE, keys=(1, 1, 1), since="5.0.0")


def _only_adds(args: list[bytes]) -> bool:
    """Whether an XADD is small and removes nothing."""
    return if_few(args) and not any(word.upper() in (b"MAXLEN", b"MINID") for word in args[2:4])


COMMANDS: tuple[CommandSpec, ...] = (
    _change(
        "xadd",
        -5,
        handler=updating(STREAM, xadd, shares=_only_adds),
        summary="Adds an entry at the end of a stream.",
        flags="write denyoom fast",
        key_specs=(KeySpec("RW update", 1, notes=_TRIMS),),
        tips="nondeterministic_output",
        complexity="O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        arguments="key [NOMKSTREAM] [(MAXLEN|MINID) [=|~] threshold:string [LIMIT count]] (*|id:string) field value "
        "[field value ...]",
        once=lambda args: True,
    ),
    _query(
        "xlen",
        2,
        handler=reading(STREAM, xlen, sees_changes=always),
        summary="Returns the number of entries in a stream.",
        flags="readonly fast",
        access="RO",
        arguments="key",
    ),
    _query(
        "xrange",
        -4,
        handler=reading(STREAM, xrange),
        summary="Returns the entries of a stream between two ids.",
        flags="readonly",
        access="RO access",
        complexity=_RANGE + "elements with COUNT), you can consider it O(1).",
        arguments="key start:string end:string [COUNT count]",
    ),
    _query(
        "xrevrange",
        -4,
        handler=reading(STREAM, xrevrange),
        summary="Returns the entries of a stream between two ids, the last one first.",
        flags="readonly",
        access="RO access",
        complexity=_RANGE + "elements with COUNT), you can consider it O(1).",
        arguments="key end:string start:string [COUNT count]",
    ),
    _change(
        "xdel",
        -3,
        handler=updating(STREAM, xdel, deletes=True),
        summary="Removes entries from a stream.",
        flags="write fast",
        access="RW delete",
        complexity="O(1) for each single item to delete in the stream, regardless of the stream size.",
        arguments="key id:string [id:string ...]",
    ),
    _change(
        "xtrim",
        -4,
        handler=updating(STREAM, xtrim, deletes=True),
        summary="Removes the first entries of a stream.",
        flags="write",
        access="RW delete",
        tips="nondeterministic_output",
        complexity="O(N), with N being the number of evicted entries. Constant times are very small however, since "
        "entries are organized in macro nodes containing multiple entries that can be released with a single "
        "deallocation.",
        arguments="key (MAXLEN|MINID) [=|~] threshold:string [LIMIT count]",
    ),
    CommandSpec(
        "xread",
        -4,
        ALONE,
        xread,
        "Returns the entries of several streams behind given ids. Waits for some if that is asked for.",
        "stream",
        "readonly blocking",
        key_specs=(KeySpec("RO access", find=streams_of),),
        since="5.0.0",
        arguments="[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id:string [id:string ...]",
    ),
)
