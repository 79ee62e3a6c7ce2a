"""CLIENT: what a node knows of its connections (https://redis.io/docs/latest/commands/client-list/).

Theory. A line of CLIENT LIST has all fields of Redis 7.2 in Redis' order, since some libraries read fields by position.
Buffers that do not exist here have the values of an idle Redis connection.
Connections of other nodes are not clients and are not listed.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands import pausing, tracking_command
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.shapes import session_of, show
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.services.clients import describe
from server.core.services.services import Services

_TYPES = (b"normal", b"master", b"slave", b"replica", b"pubsub")

Condition = Callable[[Session], bool]


def checked_attribute(value: bytes, what: str) -> bytes:
    """A name that fits a field of CLIENT LIST: printable ASCII without blanks. Raises CommandError, which names `what`."""
    if any(not 0x21 <= byte <= 0x7E for byte in value):
        raise CommandError(f"ERR {what} cannot contain spaces, newlines or special characters.")
    return value


def open_sessions(services: Services) -> list[Session]:
    """The clients of this node, without those that close at the end of the turn (CLIENT KILL, QUIT)."""
    return [session for session in services.clients.sessions.values() if not session.closing]


def _id(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(session_of(sink).id)


def _setname(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    session_of(sink).name = checked_attribute(args[2], "Client names")
    return resp.OK


def _getname(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    name = session_of(sink).name
    return resp.bulk(name) if name else resp.null(sink.resp3)


def _setinfo(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT SETINFO LIB-NAME name | LIB-VER version."""
    session, option = session_of(sink), args[2].lower()
    if option not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{show(args[2])}'")
    value = checked_attribute(args[3], show(args[2]))
    if option == b"lib-name":
        session.library_name = value
    else:
        session.library_version = value
    return resp.OK


def _info(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.verbatim(_line(services, session_of(sink)), sink.resp3)


def _line(services: Services, session: Session) -> str:
    return describe(session, services.state.now_ms, services.process.buffers_of(session.id))


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT LIST [TYPE type] [ID id …]."""
    rest = args[2:]
    wanted = open_sessions(services)
    if rest:
        option = rest[0].upper()
        if option == b"TYPE" and len(rest) == 2:
            of_type = _is_of_type(rest[1])
            wanted = [session for session in wanted if of_type(session)]
        elif option == b"ID" and len(rest) > 1:
            ids = [integer(value, "ERR Invalid client ID") for value in rest[1:]]
            present = {session.id: session for session in wanted}
            wanted = [present[wanted_id] for wanted_id in ids if wanted_id in present]
        else:
            raise CommandError(SYNTAX)
    return resp.verbatim("".join([_line(services, session) for session in wanted]), sink.resp3)


def _is_of_type(name: bytes) -> Condition:
    """Clients with subscriptions are of type pubsub, all others here of type normal."""
    wanted = name.lower()
    if wanted not in _TYPES:
        raise CommandError(f"ERR Unknown client type '{show(name)}'")
    return lambda session: wanted == (b"normal" if session.subscriber is None else b"pubsub")


def _toggle(field: str) -> Callable[[Services, Sink, int, list[bytes]], bytes]:
    """CLIENT NO-EVICT ON|OFF, CLIENT NO-TOUCH ON|OFF. Nothing is evicted here; CLIENT LIST shows the flag."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        setattr(session_of(sink), field, _on_or_off(args[2]))
        return resp.OK

    return handle


def _on_or_off(value: bytes) -> bool:
    if value.upper() not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX)
    return value.upper() == b"ON"


def _kill(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT KILL address:port: OK. CLIENT KILL filter value …: how many matched every filter and were killed."""
    if len(args) == 3:
        if not _kill_those(services, [_address_is(args[2])], None):
            raise CommandError("ERR No such client")
        return resp.OK
    if len(args) % 2:
        raise CommandError(SYNTAX)
    spared: Session | None = session_of(sink)
    conditions: list[Condition] = []
    for option, value in zip(args[2::2], args[3::2], strict=True):
        if option.upper() == b"SKIPME":
            if value.upper() not in (b"YES", b"NO"):
                raise CommandError(SYNTAX)
            spared = session_of(sink) if value.upper() == b"YES" else None
        else:
            conditions.append(_condition(services, option.upper(), value))
    return resp.integer(_kill_those(services, conditions, spared))


def _kill_those(services: Services, conditions: list[Condition], spared: Session | None) -> int:
    killed = 0
    for session in open_sessions(services):
        if session is not spared and all(holds(session) for holds in conditions):
            killed += 1
            services.clients.kill(session)
    return killed


def _address_is(value: bytes) -> Condition:
    return lambda session: session.address.encode() == value


def _condition(services: Services, option: bytes, value: bytes) -> Condition:
    """One filter of CLIENT KILL."""
    now_ms = services.state.now_ms
    if option == b"ID":
        wanted = _positive(value, "ERR client-id should be greater than 0", "ERR client-id should be greater than 0")
        return lambda session: session.id == wanted
    if option == b"ADDR":
        return _address_is(value)
    if option == b"LADDR":
        return lambda session: session.local_address.encode() == value
    if option == b"TYPE":
        return _is_of_type(value)
    if option == b"USER":
        if services.users.find(value) is None:
            raise CommandError(f"ERR No such user '{show(value)}'")
        return lambda session: session.user == value
    if option == b"MAXAGE":
        limit_s = _positive(
            value, "ERR maxage is not an integer or out of range", "ERR maxage should be greater than 0"
        )
        return lambda session: now_ms - session.created_ms >= limit_s * 1000
    raise CommandError(SYNTAX)


def _positive(value: bytes, no_number: str, too_small: str) -> int:
    number = integer(value, no_number)
    if number <= 0:
        raise CommandError(too_small)
    return number


def _unblock(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT UNBLOCK id [TIMEOUT|ERROR]: 1, or 0 if no client of this node with that id waits for an element."""
    if len(args) > 4:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{show(args[1])}'. Try CLIENT HELP."
        )
    word = args[3].upper() if len(args) > 3 else b"TIMEOUT"
    if word not in (b"TIMEOUT", b"ERROR"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    session = services.clients.sessions.get(integer(args[2]))
    return resp.integer(session is not None and services.waiting.blocked.unblock(session, word == b"ERROR"))


def _reply(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT REPLY ON|OFF|SKIP. A reply that the client does not want is made, as any request is answered, and dropped."""
    session, mode = session_of(sink), args[2].upper()
    if mode == b"ON":
        session.unmute(number)
    elif mode == b"OFF":
        session.mute(number, None)
    elif mode == b"SKIP":
        session.mute(number, number + 2)
    else:
        raise CommandError(SYNTAX)
    return resp.OK


_PLAIN = "noscript loading stale"
_ADMIN = "admin noscript loading stale"

CLIENT: CommandSpec = container(
    "client",
    "What the server knows of its connections.",
    "connection",
    (
        CommandSpec(
            "client|id", 2, IMMEDIATE, _id, "Returns the id of this connection.", "connection", _PLAIN, since="5.0.0"
        ),
        CommandSpec(
            "client|setname",
            3,
            ALONE,
            _setname,
            "Names this connection.",
            "connection",
            _PLAIN,
            since="2.6.9",
            arguments="connection-name",
        ),
        CommandSpec(
            "client|getname",
            2,
            IMMEDIATE,
            _getname,
            "Returns the name of this connection.",
            "connection",
            _PLAIN,
            since="2.6.9",
        ),
        CommandSpec(
            "client|setinfo",
            4,
            ALONE,
            _setinfo,
            "Says which library uses this connection.",
            "connection",
            _PLAIN,
            since="7.2.0",
            arguments="(LIB-NAME libname|LIB-VER libver)",
        ),
        CommandSpec(
            "client|info",
            2,
            IMMEDIATE,
            _info,
            "Returns this connection's line of CLIENT LIST.",
            "connection",
            _PLAIN,
            tips="nondeterministic_output",
            since="6.2.0",
        ),
        CommandSpec(
            "client|list",
            -2,
            IMMEDIATE,
            _list,
            "Returns a line about each connection of this node.",
            "connection",
            _ADMIN,
            tips="nondeterministic_output",
            since="2.4.0",
            complexity="O(N)",
            arguments="[TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID client-id [client-id ...]]",
        ),
        CommandSpec(
            "client|kill",
            -3,
            ALONE,
            _kill,
            "Closes connections of this node.",
            "connection",
            _ADMIN,
            since="2.4.0",
            complexity="O(N)",
            arguments="(ip:port|[ID client-id] [TYPE (NORMAL|MASTER|SLAVE|REPLICA|PUBSUB)] [USER username] "
            "[ADDR ip:port] [LADDR ip:port] [SKIPME (YES|NO)] [MAXAGE maxage])",
        ),
        CommandSpec(
            "client|unblock",
            -3,
            IMMEDIATE,
            _unblock,
            "Ends the wait of a client in a blocking command.",
            "connection",
            _ADMIN,
            since="5.0.0",
            complexity="O(log N) where N is the number of client connections",
            arguments="client-id [(TIMEOUT|ERROR)]",
        ),
        CommandSpec(
            "client|no-evict",
            3,
            ALONE,
            _toggle("no_evict"),
            "Does nothing: no client is evicted.",
            "connection",
            _ADMIN,
            since="7.0.0",
            arguments="(ON|OFF)",
        ),
        CommandSpec(
            "client|no-touch",
            3,
            ALONE,
            _toggle("no_touch"),
            "Does nothing: no key is evicted.",
            "connection",
            _PLAIN,
            since="7.2.0",
            arguments="(ON|OFF)",
        ),
        CommandSpec(
            "client|reply",
            3,
            ALONE,
            _reply,
            "Says whether this connection wants replies: to none, or not to the next command.",
            "connection",
            _PLAIN,
            since="3.2.0",
            arguments="(ON|OFF|SKIP)",
        ),
        *pausing.SUBCOMMANDS,
        *tracking_command.SUBCOMMANDS,
    ),
    since="2.4.0",
)
