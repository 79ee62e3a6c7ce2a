"""The keys of a command in their inner form (protocol/databases.py), as dispatch gives them to it.

Theory. A session has a database, 0 at first. When one of its commands begins, its key arguments become inner keys, after
the check of what the user may do and before anything else looks at them. So lanes, routes, relays, records and repairs know
nothing of databases, and a relayed command carries its database in its keys. A reply that names a key gives back
`client_key`. Commands without a key look at `Sink.space`. When two databases are swapped, the
`Sink.space` of clients changes. What has begun before has its inner keys, or its space, already: so a command goes to one
of the two databases, as a whole. A transaction, or a script, keeps the numbering that it began with
(`Sink.kept_numbering`), by which it finds the databases that it names later. Only a SWAPDB of its own replaces that.
"""

from __future__ import annotations

from mypy_extensions import i64

from protocol.databases import DATABASES, MARK, Numbering, inner_key
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import integer
from server.core.commands.spec import CommandSpec

_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1


def inner_arguments(state: State, spec: CommandSpec, args: list[bytes], space: int) -> list[bytes]:
    """HOT. Returns the arguments of a command of a space with inner keys: `args` itself if nothing has to change.

    Raises CommandError if a member does not know databases.
    """
    if not space and not _has_marked(args):
        return args
    places = spec.key_places(args)
    if not places:
        return args
    check_databases(state)
    inner = args.copy()
    for place in places:
        inner[place] = inner_key(space, args[place])
    return inner


def _has_marked(args: list[bytes]) -> bool:
    """HOT. Whether an argument begins with the mark of inner keys."""
    index: i64 = 1
    while index < len(args):
        if args[index].startswith(MARK):
            return True
        index += 1
    return False


def check_databases(state: State) -> None:
    """Raises CommandError if some member of the layout has not announced that it knows databases."""
    unable = state.with_databases.missing(state.layout)
    if unable:
        names = ", ".join(state.layout_name(node) for node in unable)
        raise CommandError(
            "ERR other databases than 0 need a version that knows them on every node, and these nodes have not announced "
            f"one: {names}"
        )


def database_in(word: bytes) -> int:
    """The number of a database in a command, as Redis reads it. Raises CommandError."""
    index = integer(word)
    if not _INT_MIN <= index <= _INT_MAX:
        raise CommandError(f"ERR value is out of range, value must between {_INT_MIN} and {_INT_MAX}")
    if not 0 <= index < DATABASES:
        raise CommandError("ERR DB index is out of range")
    return index


def numbering_for(state: State, sink: Sink) -> Numbering:
    """The numbering of databases for a command: the present one, or that of its transaction or script."""
    return state.numbering if sink.kept_numbering is None else sink.kept_numbering


def space_in(state: State, sink: Sink, word: bytes) -> int:
    """The space of the database whose number is a word of a command. Raises CommandError."""
    return numbering_for(state, sink).spaces[database_in(word)]
