"""COMMAND: the table of commands, in the format of Redis 7 (https://redis.io/docs/latest/commands/command/).

Theory. redis-cli makes its hints of COMMAND DOCS, and cluster clients learn from COMMAND the positions of a command's
keys. Both are made from the specs, so there is no second list to maintain. No command has a `request_policy` tip: such
tips tell a cluster client to ask every node and to add up the answers, and here any node answers for the whole
cluster.

The answers about all commands never change, so they are encoded once for each protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.command_arguments import encode_arguments, parse_usage
from server.core.commands.containers import helper
from server.core.commands.glob import glob_of
from server.core.commands.registry import find_command, listed_commands
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services

# The categories there are here, in Redis' order.
_CATEGORIES = ("keyspace", "read", "write", "string", "admin", "fast", "slow", "dangerous", "connection")


@cache
def _by_name() -> dict[bytes, CommandSpec]:
    """All commands and subcommands (`client|list`) by their name in lower case."""
    return {spec.name.encode(): spec for top in listed_commands() for spec in (top, *top.subcommands)}


def flags_of(spec: CommandSpec) -> list[str]:
    """Redis' command flags. The flags of a spec include some ACL categories, which Redis does not list as flags."""
    return [flag for flag in spec.flags.split() if flag not in ("dangerous", "connection")]


def access_of(spec: CommandSpec, args: Sequence[bytes] = ()) -> list[str]:
    """What a command does with its keys (Redis' flags of a key specification); `args` are those of one call, if given."""
    if args and "variable_flags" in spec.access:  # SET reads only with the option GET
        return ["RW", "access", "update"] if any(arg.upper() == b"GET" for arg in args[3:]) else ["OW", "update"]
    return (spec.access or ("RO access" if "readonly" in spec.flags.split() else "RW access update")).split()


def categories_of(spec: CommandSpec) -> list[str]:
    """The ACL categories that Redis derives from flags and groups."""
    flags = spec.flags.split()
    found = {
        "keyspace": spec.group == "generic" or (spec.group == "server" and ("readonly" in flags or "write" in flags)),
        "read": "readonly" in flags,
        "write": "write" in flags,
        "string": spec.group == "string",
        "admin": "admin" in flags,
        "fast": "fast" in flags,
        "slow": "fast" not in flags,
        "dangerous": "dangerous" in flags or "admin" in flags,
        "connection": "connection" in flags or (spec.group == "connection" and not spec.subcommands),
    }
    return [name for name in _CATEGORIES if found[name]]


def _key_specs(spec: CommandSpec, resp3: bool) -> list[bytes]:
    first, last, step = spec.keys
    if not first:
        return []

    def found_by(kind: str, fields: dict[str, int]) -> bytes:
        return named({"type": word(kind), "spec": named({n: resp.integer(v) for n, v in fields.items()}, resp3)}, resp3)

    lastkey = last if last < 0 else last - first
    fields = {} if "variable_flags" not in spec.access else {"notes": word(_VARIABLE_FLAGS)}
    fields |= {
        "flags": resp.set_([resp.simple(use) for use in access_of(spec)], resp3),
        "begin_search": found_by("index", {"index": first}),
        "find_keys": found_by("range", {"lastkey": lastkey, "keystep": step, "limit": 0}),
    }
    return [named(fields, resp3)]


def _info_entry(spec: CommandSpec, resp3: bool) -> bytes:
    """The ten elements of COMMAND INFO: name, arity, flags, first, last and step of the keys, categories, tips, …"""
    first, last, step = spec.keys
    return resp.array(
        [
            word(spec.name),
            resp.integer(spec.arity),
            resp.set_([resp.simple(flag) for flag in flags_of(spec)], resp3),
            resp.integer(first),
            resp.integer(last),
            resp.integer(step),
            resp.set_([resp.simple(f"@{name}") for name in categories_of(spec)], resp3),
            resp.set_([word(tip) for tip in spec.tips.split()], resp3),
            resp.set_(_key_specs(spec, resp3), resp3),
            resp.set_([_info_entry(sub, resp3) for sub in spec.subcommands], resp3),
        ]
    )


def usage_of(spec: CommandSpec) -> str:
    """The usage line; just the key if the spec has no usage line."""
    return spec.arguments or ("key" if spec.keys[0] == 1 and spec.arity == 2 else "")


def _docs_entry(spec: CommandSpec, resp3: bool) -> tuple[bytes, bytes]:
    fields = {name: word(getattr(spec, name)) for name in ("summary", "since", "group", "complexity")}
    since, replacement = spec.deprecated
    if since:
        fields["doc_flags"] = resp.set_([resp.simple("deprecated")], resp3)
        fields |= {"deprecated_since": word(since), "replaced_by": word(replacement)}
    usage = usage_of(spec)
    if usage:
        fields["arguments"] = encode_arguments(parse_usage(usage, bool(spec.keys[0])), resp3)
    if spec.subcommands:
        fields["subcommands"] = resp.map_([_docs_entry(sub, resp3) for sub in spec.subcommands], resp3)
    return word(spec.name), named(fields, resp3)


def _found(names: Sequence[bytes]) -> list[CommandSpec | None]:
    return [_by_name().get(name.lower()) for name in names]


@cache
def _all_info(resp3: bool) -> bytes:
    return resp.array([_info_entry(spec, resp3) for spec in listed_commands()])


@cache
def _all_docs(resp3: bool) -> bytes:
    return resp.map_([_docs_entry(spec, resp3) for spec in listed_commands()], resp3)


def _command(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _all_info(sink.resp3)


def _count(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(len(listed_commands()))


def _info(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND INFO [name …]: null for an unknown name."""
    if len(args) == 2:
        return _all_info(sink.resp3)
    entries = [resp.null(sink.resp3) if spec is None else _info_entry(spec, sink.resp3) for spec in _found(args[2:])]
    return resp.array(entries)


def _docs(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND DOCS [name …]: leaves out unknown names."""
    if len(args) == 2:
        return _all_docs(sink.resp3)
    return resp.map_([_docs_entry(spec, sink.resp3) for spec in _found(args[2:]) if spec is not None], sink.resp3)


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND LIST [FILTERBY MODULE name|ACLCAT category|PATTERN pattern]."""
    specs = list(_by_name().values())
    if len(args) > 2:
        if len(args) != 5 or args[2].upper() != b"FILTERBY":
            raise CommandError(SYNTAX)
        by, wanted = args[3].upper(), args[4].lower()
        if by == b"PATTERN":
            matches = glob_of(wanted, services.state.config).matches
            specs = [spec for spec in specs if matches(spec.name.encode())]
        elif by == b"ACLCAT":
            specs = [spec for spec in specs if show(wanted) in categories_of(spec)]
        elif by == b"MODULE":
            specs = []
        else:
            raise CommandError(SYNTAX)
    return resp.array([word(spec.name) for spec in specs])


def _called(call: list[bytes]) -> CommandSpec:
    """The command of a valid `call` of a command that has keys. Raises CommandError for any other call."""
    spec = find_command(call)
    if spec is None or spec.name.encode() not in _by_name():
        raise CommandError("ERR Invalid command specified")
    if not spec.keys[0]:
        raise CommandError("ERR The command has no key arguments")
    if not spec.accepts(len(call)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    return spec


def _getkeys(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND GETKEYS command argument …: the keys among its arguments."""
    call = args[2:]
    return resp.array([resp.bulk(key) for key in _called(call).keys_of(call)])


def _getkeysandflags(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND GETKEYSANDFLAGS command argument …: the keys among its arguments, and what the call does with them."""
    call = args[2:]
    spec = _called(call)
    flags = resp.set_([resp.simple(flag) for flag in access_of(spec, call)], sink.resp3)
    return resp.array([resp.array([resp.bulk(key), flags]) for key in spec.keys_of(call)])


_VARIABLE_FLAGS = "RW and ACCESS due to the optional `GET` argument"
_FLAGS = "loading stale connection"
_UNORDERED = "nondeterministic_output_order"
_SUBCOMMANDS = (
    CommandSpec(
        "command|count", 2, IMMEDIATE, _count, "Returns the number of commands.", "server", _FLAGS, since="2.8.13"
    ),
    CommandSpec(
        "command|info",
        -2,
        IMMEDIATE,
        _info,
        "Returns the facts about commands.",
        "server",
        _FLAGS,
        since="2.8.13",
        tips=_UNORDERED,
        complexity="O(N)",
        arguments="[command-name [command-name ...]]",
    ),
    CommandSpec(
        "command|docs",
        -2,
        IMMEDIATE,
        _docs,
        "Returns the documentation of commands.",
        "server",
        _FLAGS,
        since="7.0.0",
        tips=_UNORDERED,
        complexity="O(N)",
        arguments="[command-name [command-name ...]]",
    ),
    CommandSpec(
        "command|list",
        -2,
        IMMEDIATE,
        _list,
        "Returns the names of commands.",
        "server",
        _FLAGS,
        since="7.0.0",
        tips=_UNORDERED,
        complexity="O(N)",
        arguments="[FILTERBY (MODULE module-name|ACLCAT category|PATTERN pattern)]",
    ),
    CommandSpec(
        "command|getkeys",
        -3,
        IMMEDIATE,
        _getkeys,
        "Returns the keys of a whole command.",
        "server",
        _FLAGS,
        since="2.8.13",
        complexity="O(N)",
        arguments="command [arg [arg ...]]",
    ),
    CommandSpec(
        "command|getkeysandflags",
        -3,
        IMMEDIATE,
        _getkeysandflags,
        "Returns the keys of a whole command, and what it does with each.",
        "server",
        _FLAGS,
        since="7.0.0",
        complexity="O(N)",
        arguments="command [arg [arg ...]]",
    ),
)

COMMAND = CommandSpec(
    "command",
    -1,
    IMMEDIATE,
    _command,
    "Returns the facts about all commands.",
    "server",
    _FLAGS,
    since="2.8.13",
    complexity="O(N)",
    tips=_UNORDERED,
    subcommands=(
        *_SUBCOMMANDS,
        helper(
            "command",
            "server",
            _SUBCOMMANDS,
            ("(no subcommand)", "    Returns the facts about all commands."),
        ),
    ),
)
