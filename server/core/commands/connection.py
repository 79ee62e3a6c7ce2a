"""PING, QUIT, RESET and the rest of https://redis.io/docs/latest/commands/?group=connection.

Theory. Commands that change a session's protocol or quorums, or end it, run ALONE, so that the replies to earlier commands
keep their format and are sent before QUIT closes the connection. AUTH and HELLO are in login.py. Cluster clients send
READONLY, READWRITE and ASKING before they go to a replica or follow a redirection; here every node serves every key at all
times, so these change nothing.

The version that HELLO and INFO report is Redis 7.4: it is the first with expiries of fields, which are here, and redis-py
keeps a cache of a client's own only for 7.4 and later.
The mode is "standalone" and `cluster_enabled` is 0: libraries, tools and test suites that adapt themselves to a cluster
refuse multi-key commands over several slots, which every node serves. Cluster clients check neither: they ask CLUSTER
SLOTS, and get an answer. `redis-cli --cluster` does check: to use it, set `cluster_mode`; then both report a cluster.

A web page can make a browser send HTTP to a node that only its user can reach, and a line of the body may be a command.
Every such request contains POST or Host:, and no Redis client sends these words. So a connection that sends one is closed,
and what follows is not run (Redis: securityWarningCommand).
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.client_command import CLIENT
from server.core.commands.login import LOGIN_FLAGS
from server.core.commands.pubsub.guard import end_monitoring, review_guard
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.services.services import Services

_STALE = "loading stale"
_RESET = resp.simple("RESET")


def _ping(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """PING [message]."""
    if len(args) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    message = args[1] if len(args) > 1 else b""
    if isinstance(sink, Session) and sink.subscriber is not None and not sink.resp3:
        return resp.array([resp.bulk(b"pong"), resp.bulk(message)])  # it looks like a message
    return resp.PONG if len(args) == 1 else resp.bulk(message)


def _echo(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.bulk(args[1])


def _quit(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.clients.kill(session_of(sink))
    return resp.OK


def _reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """RESET: the connection is as when it was new, except for the library's name and version, as in Redis."""
    session = session_of(sink)
    session.name = b""
    session.resp3 = session.no_evict = session.no_touch = False
    session.read_quorum = session.write_quorum = session.database = 0
    session.space = services.state.numbering.spaces[0]
    session.transaction = session.watched = None
    session.unmute(number)
    services.subscriptions.forget(session)
    services.tracking.stop(session)
    end_monitoring(services, session)
    review_guard(services, session)
    services.users.opened(session)
    return _RESET


def _ok(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.OK


def _refuse_http(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """A line of HTTP: closes the connection without a reply, and runs nothing that follows."""
    session = session_of(sink)
    services.state.statistics.http_refused += 1
    services.process.http_refused_from = session.address
    services.clients.kill(session)
    return b""


# Found by name, but neither COMMAND nor the manual lists them.
UNLISTED: tuple[CommandSpec, ...] = tuple(
    [
        CommandSpec(
            name, -1, IMMEDIATE, _refuse_http, "Closes the connection: this is HTTP.", "connection", f"{_STALE} no_auth"
        )
        for name in ("post", "host:")
    ]
)

_FAST = "loading stale fast"
_CLUSTER = "loading stale fast connection"

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "ping", -1, IMMEDIATE, _ping, "Returns PONG, or the message.", "connection", "fast", arguments="[message]"
    ),
    CommandSpec("echo", 2, IMMEDIATE, _echo, "Returns the message.", "connection", _FAST, arguments="message"),
    CommandSpec("quit", -1, ALONE, _quit, "Closes the connection.", "connection", LOGIN_FLAGS),
    CommandSpec("reset", 1, ALONE, _reset, "Makes the connection as new.", "connection", LOGIN_FLAGS, since="6.2.0"),
    CommandSpec(
        "readonly", 1, IMMEDIATE, _ok, "Does nothing: every node serves every key.", "cluster", _CLUSTER, since="3.0.0"
    ),
    CommandSpec(
        "readwrite", 1, IMMEDIATE, _ok, "Does nothing: every node serves every key.", "cluster", _CLUSTER, since="3.0.0"
    ),
    CommandSpec(
        "asking",
        1,
        IMMEDIATE,
        _ok,
        "Does nothing: there are no redirections.",
        "cluster",
        "fast connection",
        since="3.0.0",
    ),
    CLIENT,
)
