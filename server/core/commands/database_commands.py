"""SELECT, MOVE and SWAPDB (https://redis.io/docs/latest/commands/select/).

Theory. Databases are name spaces of one key space (protocol/databases.py). MOVE is RENAMENX to the same name in another
database: it writes the target before it removes the source, and nothing is lost if it ends in between.

SWAPDB is refused. In Redis it exchanges two pointers of one process. Here it would have to happen on all nodes at the same
instant, or clients of different nodes would write into different databases under the same number; and a leaderless cluster
has no such instant. A deployment that fills a second database and swaps it in can use a key prefix instead, and change
that in the application.

Cluster clients know database 0 only. With `cluster_mode` the other ones are refused, in the words of Redis Cluster.
"""

from __future__ import annotations

from protocol import resp
from protocol.databases import DATABASES, client_key, database_of, inner_key
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.databases import check_databases, database_in
from server.core.commands.renaming import moved
from server.core.commands.spec import ALONE, EXCLUSIVE, IMMEDIATE, CommandSpec
from server.core.services.services import Services


def _select(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SELECT index: commands that follow on this connection are of that database."""
    index = integer(args[1])
    if index and services.state.config.cluster_mode:
        raise CommandError("ERR SELECT is not allowed in cluster mode")
    index = database_in(args[1])
    if index:
        check_databases(services.state)
    sink.database = index
    if isinstance(sink, Session):
        sink.client().database = index  # from within a transaction, too
    return resp.OK


def _move(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """MOVE key db: 1, or 0 if there is no such key, or the other database has one of this name."""
    if services.state.config.cluster_mode:
        raise CommandError("ERR MOVE is not allowed in cluster mode")
    database = database_in(args[2])
    if database == database_of(args[1]):
        raise CommandError("ERR source and destination objects are the same")
    check_databases(services.state)
    services.run_steps(moved(services, args[1], inner_key(database, client_key(args[1]))), sink, number)


def _swapdb(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SWAPDB index1 index2: refused, see above, unless both are the same."""
    if services.state.config.cluster_mode:
        raise CommandError("ERR SWAPDB is not allowed in cluster mode")
    if _swapped(args[1], "first") == _swapped(args[2], "second"):
        return resp.OK
    raise CommandError(
        "ERR SWAPDB is not supported: the nodes of a cluster cannot exchange two databases at the same instant. "
        "Write to a new key prefix, and let the application change to that"
    )


def _swapped(word: bytes, which: str) -> int:
    """The number of a database in SWAPDB, as Redis reads it. Raises CommandError."""
    try:
        index = integer(word)
    except CommandError as error:
        raise CommandError(f"ERR invalid {which} DB index") from error
    if not 0 <= index < DATABASES:
        raise CommandError("ERR DB index is out of range")
    return index


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "select",
        2,
        ALONE,
        _select,
        "Chooses the database of the connection, 0 to 15.",
        "connection",
        "loading stale fast",
        arguments="index",
    ),
    CommandSpec(
        "move",
        3,
        EXCLUSIVE,
        _move,
        "Moves a key to another database; writes it there first.",
        "generic",
        "write fast",
        (1, 1, 1),
        access="RW access update",
        once=lambda args: True,
        arguments="key db:integer",
    ),
    CommandSpec(
        "swapdb",
        3,
        IMMEDIATE,
        _swapdb,
        "Is refused: a cluster cannot exchange two databases at one instant.",
        "server",
        "write fast dangerous",
        since="4.0.0",
        complexity="O(1)",
        arguments="index1:integer index2:integer",
    ),
)
