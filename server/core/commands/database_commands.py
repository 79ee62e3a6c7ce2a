"""SELECT and MOVE (https://redis.io/docs/latest/commands/select/).

Theory. Databases are name spaces of one key space (protocol/databases.py). MOVE is RENAMENX to the same name in another
database: it writes the target before it removes the source, and nothing is lost if it ends in between.

Cluster clients know database 0 only. With `cluster_mode` the other ones are refused, in the words of Redis Cluster.
"""

from __future__ import annotations

from protocol import resp
from protocol.databases import client_key, inner_key, space_of
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.databases import check_databases, database_in, numbering_for, space_in
from server.core.commands.renaming import moved
from server.core.commands.spec import ALONE, EXCLUSIVE, CommandSpec
from server.core.services.services import Services


def _select(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SELECT index: commands that follow on this connection are of that database."""
    index = integer(args[1])
    if index and services.state.config.cluster_mode:
        raise CommandError("ERR SELECT is not allowed in cluster mode")
    index = database_in(args[1])
    if index:
        check_databases(services.state)
    sink.space = numbering_for(services.state, sink).spaces[index]
    if isinstance(sink, Session):
        client = sink.client()  # from within a transaction, too
        sink.database = client.database = index
        client.space = services.state.numbering.spaces[index]
    return resp.OK


def _move(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """MOVE key db: 1, or 0 if there is no such key, or the other database has one of this name."""
    if services.state.config.cluster_mode:
        raise CommandError("ERR MOVE is not allowed in cluster mode")
    space = space_in(services.state, sink, args[2])
    if space == space_of(args[1]):
        raise CommandError("ERR source and destination objects are the same")
    check_databases(services.state)
    services.run_steps(moved(services, args[1], inner_key(space, client_key(args[1]))), sink, number)


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
)
