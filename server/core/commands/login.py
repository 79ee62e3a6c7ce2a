"""AUTH and HELLO: how a client says who it is (https://redis.io/docs/latest/commands/auth/).

Theory. Both run ALONE, so that replies to earlier commands keep their format, and later commands are checked by the rights
of the user that has logged in. A host with many failed logins has to wait (services/guesses.py): the login is
looked at later, and the commands behind it wait for that, while all other connections go on.

HELLO changes nothing unless all its arguments are valid and the login succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from protocol import resp
from server.core.base.config import Config
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.client_command import checked_attribute
from server.core.commands.shapes import session_of, show
from server.core.commands.spec import ALONE, CommandSpec
from server.core.services.guesses import host_of
from server.core.services.services import Services
from server.core.services.users import DEFAULT_NAME, LOCAL_NAME

REDIS_VERSION = "7.4.0"
LOGIN_FLAGS = "noscript loading stale fast no_auth allow_busy"
_WRONG = "WRONGPASS invalid username-password pair or user is disabled."
_TOO_MANY = "ERR too many failed logins from your address: try again later"
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_HELLO_FIRST = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can "
    "be used to authenticate the client and select the RESP protocol version at the same time"
)


def _log_in(
    services: Services,
    sink: Sink,
    number: int,
    command: bytes,
    login: tuple[bytes, bytes],
    then: Callable[[], bytes],
) -> bytes | None:
    """Logs a session in with a name and a password, and returns what `then` answers. Returns None if the sink, which in a
    transaction is not the session, gets the answer later. Raises CommandError."""
    state, users, session = services.state, services.users, session_of(sink)
    host = host_of(session.address)
    is_local = (
        login[0] == LOCAL_NAME
    )  # its secret cannot be guessed, and dyn up must not wait for others on its machine
    delay_ms = 0 if is_local else users.guesses.delay_ms(host, *login, state.now_ms)
    if delay_ms is None:
        users.guesses_failed(session, login[0])
        raise CommandError(_TOO_MANY)
    if not delay_ms:
        return _answered(services, session, command, login, then)

    def look() -> None:
        users.guesses.waited(host)
        try:
            reply = _answered(services, session, command, login, then)
        except CommandError as error:
            reply = error.reply
        sink.answer(number, reply)

    services.timers.call_at(state.now_ms + delay_ms, look)
    return None


def _answered(
    services: Services, session: Session, command: bytes, login: tuple[bytes, bytes], then: Callable[[], bytes]
) -> bytes:
    state, users = services.state, services.users
    if not users.log_in(session, *login):
        users.guesses.failed(host_of(session.address), state.now_ms)
        users.log.add("auth", show(command), login[0], session, state.now_ms, state.time_ms)
        raise CommandError(_WRONG)
    users.guesses.succeeded(host_of(session.address), *login)
    return then()


def _auth(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """AUTH [user] password."""
    if len(args) > 3:
        raise CommandError(SYNTAX)
    if len(args) == 2:
        default = services.users.find(DEFAULT_NAME)
        if default is not None and default.no_password:
            raise CommandError(_NO_PASSWORD)
    login = (DEFAULT_NAME if len(args) == 2 else args[1], args[-1])
    return _log_in(services, sink, number, args[0], login, lambda: resp.OK)


def _hello(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """HELLO [2|3 [AUTH user password] [SETNAME name]]: changes nothing unless all arguments are valid."""
    session = session_of(sink)
    resp3, name, login = session.resp3, session.name, None
    if len(args) > 1:
        protocol = integer(args[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
        resp3 = protocol == 3
    rest = args[2:]
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) > 2:
            login = (rest[1], rest[2])
            rest = rest[3:]
        elif option == b"SETNAME" and len(rest) > 1:
            name = checked_attribute(rest[1], "Client names")
            rest = rest[2:]
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{show(rest[0])}'")
    greet = partial(_greet, services, session, resp3, name)
    if login is not None:
        return _log_in(services, sink, number, args[0], login, greet)
    if not session.has_logged_in:
        raise CommandError(_HELLO_FIRST)
    return greet()


def redis_mode(config: Config) -> str:
    """The mode that HELLO and INFO report."""
    return "cluster" if config.cluster_mode else "standalone"


def _greet(services: Services, session: Session, resp3: bool, name: bytes) -> bytes:
    """Chooses the protocol and the name, and returns the greeting."""
    session.resp3, session.name = resp3, name
    fields: dict[resp.Value, resp.Value] = {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": 3 if resp3 else 2,
        "id": session.id,
        "mode": redis_mode(services.state.config),
        "role": "master",
        "modules": [],
    }
    return resp.encode(fields, resp3)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "hello",
        -1,
        ALONE,
        _hello,
        "Greets the server and chooses the protocol.",
        "connection",
        LOGIN_FLAGS,
        since="6.0.0",
        arguments="[protover [AUTH (username password)] [SETNAME clientname]]",
    ),
    CommandSpec(
        "auth", -2, ALONE, _auth, "Logs the connection in.", "connection", LOGIN_FLAGS, arguments="[username] password"
    ),
)
