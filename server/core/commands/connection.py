"""PING, HELLO, AUTH and the rest of https://redis.io/docs/latest/commands/?group=connection.

Theory. Commands that change a session's protocol or quorums, or end it, run ALONE, so that the replies to earlier commands
keep their format and are sent before QUIT closes the connection. There are no passwords and one user, `default`, so AUTH
answers as a Redis without a password does. Cluster clients send READONLY, READWRITE and ASKING before they go to a
replica or follow a redirection; here every node serves every key at all times, so these change nothing.

The version that HELLO and INFO report is Redis 7.2, the oldest with all commands that the usual libraries send (CLIENT
SETINFO).
The mode is "standalone" and `cluster_enabled` is 0: libraries, tools and test suites that adapt themselves to a cluster
refuse multi-key commands over several slots, which every node serves. Cluster clients check neither: they ask CLUSTER
SLOTS, and get an answer. `redis-cli --cluster` does check: to use it, set `cluster_mode`; then both report a cluster.

A web page can make a browser send HTTP to a node that only its user can reach, and a line of the body may be a command.
Every such request contains POST or Host:, and no Redis client sends these words. So a connection that sends one is closed,
and what follows is not run (Redis: securityWarningCommand).
"""

from __future__ import annotations

from protocol import resp
from server.core.base.config import Config
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.client_command import CLIENT, checked_attribute
from server.core.commands.containers import container
from server.core.commands.shapes import session_of, show
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.services.services import Services

REDIS_VERSION = "7.2.0"
USER = b"default"

_STALE = "loading stale"
_RESET = resp.simple("RESET")
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


def _ping(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """PING [message]."""
    if len(args) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    return resp.PONG if len(args) == 1 else resp.bulk(args[1])


def _echo(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.bulk(args[1])


def _hello(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """HELLO [2|3 [AUTH user password] [SETNAME name]]: changes nothing unless all arguments are valid."""
    session = session_of(sink)
    resp3, name = session.resp3, session.name
    if len(args) > 1:
        protocol = integer(args[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
        resp3 = protocol == 3
    rest = args[2:]
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) > 2:
            _log_in(rest[1])
            rest = rest[3:]
        elif option == b"SETNAME" and len(rest) > 1:
            name = checked_attribute(rest[1], "Client names")
            rest = rest[2:]
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{show(rest[0])}'")
    session.resp3, session.name = resp3, name
    return _greeting(session, services.state.config)


def redis_mode(config: Config) -> str:
    """The mode that HELLO and INFO report."""
    return "cluster" if config.cluster_mode else "standalone"


def _greeting(session: Session, config: Config) -> bytes:
    fields: dict[resp.Value, resp.Value] = {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": 3 if session.resp3 else 2,
        "id": session.id,
        "mode": redis_mode(config),
        "role": "master",
        "modules": [],
    }
    return resp.encode(fields, session.resp3)


def _log_in(user: bytes) -> None:
    """Checks the user. The only user has no password, so any password is accepted."""
    if user != USER:
        raise CommandError("WRONGPASS invalid username-password pair or user is disabled.")


def _auth(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """AUTH [user] password."""
    if len(args) == 2:
        raise CommandError(_NO_PASSWORD)
    if len(args) > 3:
        raise CommandError(SYNTAX)
    _log_in(args[1])
    return resp.OK


def _select(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SELECT 0. There is one database, as `CONFIG GET databases` says, so any other index is an error."""
    index = integer(args[1])
    if not -(1 << 31) <= index < 1 << 31:
        raise CommandError("ERR value is out of range, value must between -2147483648 and 2147483647")
    if index != 0:
        raise CommandError("ERR DB index is out of range")
    return resp.OK


def _quit(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.clients.kill(session_of(sink))
    return resp.OK


def _reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """RESET: the connection is as when it was new, except for the library's name and version, as in Redis."""
    session = session_of(sink)
    session.name = b""
    session.resp3 = session.no_evict = session.no_touch = False
    session.read_quorum = session.write_quorum = 0
    session.unmute(number)
    return _RESET


def _ok(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.OK


def _whoami(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.bulk(USER)


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
        CommandSpec(name, -1, IMMEDIATE, _refuse_http, "Closes the connection: this is HTTP.", "connection", _STALE)
        for name in ("post", "host:")
    ]
)

_LOGIN = "noscript loading stale fast no_auth allow_busy"
_FAST = "loading stale fast"
_CLUSTER = "loading stale fast connection"

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "ping", -1, IMMEDIATE, _ping, "Returns PONG, or the message.", "connection", "fast", arguments="[message]"
    ),
    CommandSpec("echo", 2, IMMEDIATE, _echo, "Returns the message.", "connection", _FAST, arguments="message"),
    CommandSpec(
        "hello",
        -1,
        ALONE,
        _hello,
        "Greets the server and chooses the protocol.",
        "connection",
        _LOGIN,
        since="6.0.0",
        arguments="[protover [AUTH (username password)] [SETNAME clientname]]",
    ),
    CommandSpec(
        "auth", -2, ALONE, _auth, "Logs the connection in.", "connection", _LOGIN, arguments="[username] password"
    ),
    CommandSpec(
        "select", 2, ALONE, _select, "Chooses the database: there is one, 0.", "connection", _FAST, arguments="index"
    ),
    CommandSpec("quit", -1, ALONE, _quit, "Closes the connection.", "connection", _LOGIN),
    CommandSpec("reset", 1, ALONE, _reset, "Makes the connection as new.", "connection", _LOGIN, since="6.2.0"),
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
    container(
        "acl",
        "Access control: there is one user, who may do everything.",
        "server",
        (
            CommandSpec(
                "acl|whoami",
                2,
                IMMEDIATE,
                _whoami,
                "Returns the name of the user.",
                "server",
                "noscript loading stale",
                since="6.0.0",
            ),
        ),
        since="6.0.0",
    ),
)
