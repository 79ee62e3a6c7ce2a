"""ACL: the users of the cluster (https://redis.io/docs/latest/commands/?name=acl).

Theory. Any node takes a change, and all nodes follow it (services/users.py). Every change is stored as it is made, so ACL
SAVE has nothing to do and answers OK. There is no ACL file, so ACL LOAD has nothing to read and answers as a Redis without
one. ACL LOG tells what this node has refused.
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import CommandError, wrong_arity
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.command_docs import categories_of
from server.core.commands.containers import container
from server.core.commands.permissions import acl_commands, dry_run, kind_of_name
from server.core.commands.registry import find_command, listed_commands
from server.core.commands.shapes import named, session_of, show, word
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.services.security_log import LogEntry
from server.core.services.services import Services
from server.core.services.users import DEFAULT_NAME
from server.core.users.rules import CATEGORIES, Selector, User, has_spaces

_BITS_DEFAULT, _BITS_MAX = 256, 4096
_NO_FILE = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    "command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in "
    "the Redis configuration."
)
_BAD_NAME = "ERR Usernames can't contain spaces or null characters"


def _whoami(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.bulk(session_of(sink).user)


def _users(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.array([resp.bulk(name) for name in services.users.names()])


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL LIST: a line for each user, as it would stand in an ACL file."""
    lines = []
    for name in services.users.names():
        user = services.users.find(name)
        assert user is not None, "it is among the names"
        lines.append(resp.bulk(b" ".join([b"user", name, *user.rules()])))
    return resp.array(lines)


def _setuser(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL SETUSER name [rule …]: changes nothing if a rule is wrong."""
    name = args[2]
    if has_spaces(name):
        raise CommandError(_BAD_NAME)
    services.users.change(name, args[3:], kind_of_name)
    _warn_of_older_nodes(services)
    return resp.OK


def _deluser(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL DELUSER name …: how many there were; their connections are closed, on all nodes."""
    if DEFAULT_NAME in args[2:]:
        raise CommandError("ERR The 'default' user cannot be removed")
    count = services.users.delete(args[2:])
    _warn_of_older_nodes(services)
    return resp.integer(count)


def _warn_of_older_nodes(services: Services) -> None:
    """Logs which members take no notice of a change of users. The change itself is logged by the audit (audited.py)."""
    without = services.users.without_users()
    if without:
        services.users.log.tell(
            f"nodes {', '.join(without)} run a version without users and let everybody in: upgrade them", True
        )


def _getuser(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    user = services.users.find(args[2])
    if user is None:
        return resp.null(sink.resp3)
    return named(_described(user, sink.resp3), sink.resp3)


def _described(user: User, resp3: bool) -> dict[str, bytes]:
    return {
        "flags": resp.set_([resp.bulk(flag) for flag in user.flags()], resp3),
        "passwords": resp.array([resp.bulk(each) for each in user.passwords]),
        **_described_selector(user.root),
        "selectors": resp.array([named(_described_selector(each), resp3) for each in user.selectors]),
    }


def _described_selector(selector: Selector) -> dict[str, bytes]:
    return {
        "commands": resp.bulk(selector.describe_commands()),
        "keys": resp.bulk(selector.describe_keys()),
        "channels": resp.bulk(selector.describe_channels()),
    }


def _cat(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL CAT [category]: all categories, or the commands of one."""
    if len(args) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.")
    if len(args) == 2:
        return resp.array([word(name) for name in CATEGORIES])
    category = args[2].lower().decode("latin-1")
    if category not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{show(args[2])}'")
    specs = [spec for top in listed_commands() for spec in (top, *top.subcommands)]
    return resp.array([word(spec.name) for spec in specs if category in categories_of(spec)])


def _genpass(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL GENPASS [bits]: random hexadecimal digits, as many as hold that many bits."""
    bits = integer(args[2]) if len(args) == 3 else _BITS_DEFAULT
    if not 0 < bits <= _BITS_MAX:
        raise CommandError(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to "
            f"{_BITS_MAX}"
        )
    digits = (bits + 3) // 4
    draw = services.process.random_bytes or services.state.rng.randbytes
    return word(draw((digits + 1) // 2).hex()[:digits])


def _dryrun(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL DRYRUN user command [argument …]: whether the user may run the command."""
    user, call = services.users.find(args[2]), args[3:]
    if user is None:
        raise CommandError(f"ERR User '{show(args[2])}' not found")
    spec = find_command(call) or (acl_commands().get(call[0].lower()) if len(call) == 1 else None)
    if spec is None or spec.name.encode() not in acl_commands():
        raise CommandError(f"ERR Command '{show(call[0])}' not found")
    if not spec.accepts(len(call)):
        raise CommandError(wrong_arity(spec.name)[1:-2].decode())
    refusal = dry_run(user, spec, call)
    return resp.bulk(refusal.encode("utf-8", "surrogateescape")) if refusal else resp.OK


def _log(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL LOG [count|RESET]: what this node has refused, newest first."""
    if len(args) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.")
    entries = services.users.log.entries
    if len(args) == 3 and args[2].lower() == b"reset":
        entries.clear()
        return resp.OK
    count = max(0, integer(args[2])) if len(args) == 3 else 10
    return resp.array([_encoded(entry, services.state.time_ms, sink.resp3) for entry in entries[:count]])


def _encoded(entry: LogEntry, time_ms: int, resp3: bool) -> bytes:
    age_s = max(0, time_ms - entry.created_ms) / 1000
    return named(
        {
            "count": resp.integer(entry.count),
            "reason": word(entry.reason),
            "context": word(entry.context),
            "object": _text(entry.object),
            "username": _text(entry.user),
            "age-seconds": resp.encode(age_s, resp3),
            "client-info": _text(entry.client),
            "entry-id": resp.integer(entry.number),
            "timestamp-created": resp.integer(entry.created_ms),
            "timestamp-last-updated": resp.integer(entry.updated_ms),
        },
        resp3,
    )


def _text(text: str) -> bytes:
    return resp.bulk(text.encode("utf-8", "surrogateescape"))


def _save(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """ACL SAVE: OK, for users are stored as they are changed."""
    return resp.OK


def _load(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise CommandError(_NO_FILE)


_ADMIN = "admin noscript loading stale"
_ANYONE = "noscript loading stale"

ACL: CommandSpec = container(
    "acl",
    "The users of the cluster, and what they may do.",
    "server",
    (
        CommandSpec(
            "acl|cat",
            -2,
            IMMEDIATE,
            _cat,
            "Lists the categories, or the commands of one.",
            "server",
            _ANYONE,
            since="6.0.0",
            complexity="O(1)",
            arguments="[categoryname]",
        ),
        CommandSpec(
            "acl|deluser",
            -3,
            ALONE,
            _deluser,
            "Deletes users and closes their connections.",
            "server",
            _ADMIN,
            since="6.0.0",
            complexity="O(1)",
            arguments="username [username ...]",
        ),
        CommandSpec(
            "acl|dryrun",
            -4,
            IMMEDIATE,
            _dryrun,
            "Says whether a user may run a command.",
            "server",
            _ADMIN,
            since="7.0.0",
            complexity="O(1)",
            arguments="username command [arg [arg ...]]",
        ),
        CommandSpec(
            "acl|genpass",
            -2,
            IMMEDIATE,
            _genpass,
            "Makes a random password.",
            "server",
            _ANYONE,
            since="6.0.0",
            arguments="[bits:integer]",
        ),
        CommandSpec(
            "acl|getuser",
            3,
            IMMEDIATE,
            _getuser,
            "Returns the rules of a user.",
            "server",
            _ADMIN,
            since="6.0.0",
            complexity="O(N)",
            arguments="username",
        ),
        CommandSpec(
            "acl|list", 2, IMMEDIATE, _list, "Returns the rules of all users.", "server", _ADMIN, since="6.0.0",
            complexity="O(N)",
        ),
        CommandSpec(
            "acl|load", 2, IMMEDIATE, _load, "Not supported: there is no ACL file.", "server", _ADMIN, since="6.0.0",
            complexity="O(N)",
        ),
        CommandSpec(
            "acl|log",
            -2,
            IMMEDIATE,
            _log,
            "Returns what this node has refused.",
            "server",
            _ADMIN,
            since="6.0.0",
            complexity="O(N)",
            arguments="[(count|RESET)]",
        ),
        CommandSpec(
            "acl|save", 2, IMMEDIATE, _save, "Answers OK: every change is stored as it is made.", "server", _ADMIN,
            since="6.0.0", complexity="O(N)",
        ),
        CommandSpec(
            "acl|setuser",
            -3,
            ALONE,
            _setuser,
            "Makes or changes a user, on all nodes.",
            "server",
            _ADMIN,
            since="6.0.0",
            complexity="O(N)",
            arguments="username [rule [rule ...]]",
        ),
        CommandSpec(
            "acl|users", 2, IMMEDIATE, _users, "Returns the names of all users.", "server", _ADMIN, since="6.0.0",
            complexity="O(N)",
        ),
        CommandSpec(
            "acl|whoami", 2, IMMEDIATE, _whoami, "Returns the name of the user.", "server", _ANYONE, since="6.0.0"
        ),
    ),
    since="6.0.0",
)  # fmt: skip
