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
from server.core.commands.command_arguments import Argument, encode_arguments, parse_usage
from server.core.commands.containers import helper
from server.core.commands.glob import glob_of
from server.core.commands.key_specs import SORT_PATTERNS, KeySpec, fits, found_keys, from_range, legacy_range
from server.core.commands.registry import find_command, listed_commands
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services
from server.core.users.rules import CATEGORIES

# The categories that a spec may have among its flags, since they follow from nothing else. They are no flags of Redis.
_AMONG_FLAGS = ("@admin", "dangerous", "connection", "set", "sortedset", "list")
_SYSTEM = ("debug",)  # what Redis' documentation calls system commands
# The category of a group of commands, where the group has one.
_OF_GROUPS = {
    "generic": "keyspace", "sorted-set": "sortedset", "transactions": "transaction", "string": "string", "hash": "hash",
    "set": "set", "list": "list", "bitmap": "bitmap", "hyperloglog": "hyperloglog", "geo": "geo", "stream": "stream",
    "scripting": "scripting", "connection": "connection",
}  # fmt: skip


@cache
def _by_name() -> dict[bytes, CommandSpec]:
    """All commands and subcommands (`client|list`) by their name in lower case."""
    return {spec.name.encode(): spec for top in listed_commands() for spec in (top, *top.subcommands)}


def flags_of(spec: CommandSpec) -> list[str]:
    """Redis' command flags. The flags of a spec include some ACL categories, which Redis does not list as flags."""
    flags = [flag for flag in spec.flags.split() if flag not in (*_AMONG_FLAGS, "data")]
    return flags if all(key_spec.is_range() for key_spec in specs_of(spec)) else [*flags, "movablekeys"]


def is_operators(spec: CommandSpec) -> bool:
    """Whether the command is for the operators of a cluster, or for other nodes (`dyn.record` and the like)."""
    return spec.group == "dyn" and "data" not in spec.flags.split()


@cache
def specs_of(spec: CommandSpec) -> tuple[KeySpec, ...]:
    """The key specifications of a command, also if it has one range and says so by `keys`."""
    if spec.key_specs or not spec.keys[0]:
        return spec.key_specs
    access = spec.access or ("RO access" if "readonly" in spec.flags.split() else "RW access update")
    return (from_range(access, spec.keys),)


def categories_of(spec: CommandSpec) -> list[str]:
    """The ACL categories that Redis derives from flags and groups."""
    flags = spec.flags.split()
    found = {
        "read": "readonly" in flags and spec.group != "scripting" and not is_operators(spec),
        "write": "write" in flags and not is_operators(spec),
        "admin": "admin" in flags or "@admin" in flags or is_operators(spec),
        "dyn": is_operators(spec),
        "fast": "fast" in flags,
        "slow": "fast" not in flags,
        "blocking": "blocking" in flags,
        "pubsub": "pubsub" in flags,
        "dangerous": "dangerous" in flags or "admin" in flags or is_operators(spec),
        "keyspace": spec.group == "server" and ("write" in flags or ("readonly" in flags and not spec.has_keys())),
        **{name: True for name in flags if name in _AMONG_FLAGS},
    }
    if not spec.subcommands and not any(name in flags for name in _AMONG_FLAGS[2:]):
        found |= {_OF_GROUPS.get(spec.group, ""): True}
    return [name for name in CATEGORIES if found.get(name)]


def _key_specs(spec: CommandSpec, resp3: bool) -> list[bytes]:
    return [_key_spec(key_spec, resp3) for key_spec in specs_of(spec)]


def _key_spec(key_spec: KeySpec, resp3: bool) -> bytes:
    def found_by(kind: str, fields: dict[str, bytes]) -> bytes:
        return named({"type": word(kind), "spec": named(fields, resp3)}, resp3)

    def numbers(**fields: int) -> dict[str, bytes]:
        return {name: resp.integer(number) for name, number in fields.items()}

    if key_spec.find is not None:
        begin_search = find_keys = found_by("unknown", {})
    else:
        if key_spec.keyword:
            fields = {"keyword": word(key_spec.keyword), **numbers(startfrom=key_spec.start)}
            begin_search = found_by("keyword", fields)
        else:
            begin_search = found_by("index", numbers(index=key_spec.start))
        if key_spec.counted:
            find_keys = found_by("keynum", numbers(keynumidx=0, firstkey=1, keystep=key_spec.step))
        else:
            find_keys = found_by("range", numbers(lastkey=key_spec.last, keystep=key_spec.step, limit=0))
    flags = resp.set_([resp.simple(use) for use in key_spec.access.split()], resp3)
    notes = {"notes": word(key_spec.notes)} if key_spec.notes else {}
    return named({**notes, "flags": flags, "begin_search": begin_search, "find_keys": find_keys}, resp3)


def _info_entry(spec: CommandSpec, resp3: bool) -> bytes:
    """The ten elements of COMMAND INFO: name, arity, flags, first, last and step of the keys, categories, tips, …"""
    first, last, step = legacy_range(specs_of(spec))
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


def arguments_of(spec: CommandSpec) -> tuple[Argument, ...]:
    """The tree of a command's arguments."""
    specs = specs_of(spec)
    key_specs = [number for number, key_spec in enumerate(specs) if key_spec is not SORT_PATTERNS]
    return parse_usage(usage_of(spec), key_specs, specs.index(SORT_PATTERNS) if SORT_PATTERNS in specs else -1)


def _docs_entry(spec: CommandSpec, resp3: bool) -> tuple[bytes, bytes]:
    fields = {name: word(getattr(spec, name)) for name in ("summary", "since", "group", "complexity")}
    since, replacement = spec.deprecated
    if spec.name in _SYSTEM:
        fields["doc_flags"] = resp.set_([resp.simple("syscmd")], resp3)
    if since:
        fields["doc_flags"] = resp.set_([resp.simple("deprecated")], resp3)
        fields |= {"deprecated_since": word(since), "replaced_by": word(replacement)}
    if usage_of(spec):
        fields["arguments"] = encode_arguments(arguments_of(spec), resp3)
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
    if not spec.has_keys():
        raise CommandError("ERR The command has no key arguments")
    if not spec.accepts(len(call)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    if not fits(specs_of(spec), call):
        raise CommandError("ERR Invalid arguments specified for command")
    return spec


def _getkeys(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND GETKEYS command argument …: the keys among its arguments."""
    call = args[2:]
    return resp.array([resp.bulk(key) for key in _called(call).keys_of(call)])


def _getkeysandflags(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """COMMAND GETKEYSANDFLAGS command argument …: the keys among its arguments, and what the call does with each."""
    call = args[2:]
    rows = []
    for key, key_spec in found_keys(specs_of(_called(call)), call):
        access = key_spec.access_of(call) if key_spec.access_of else key_spec.access
        rows.append(resp.array([resp.bulk(key), resp.set_([resp.simple(use) for use in access.split()], sink.resp3)]))
    return resp.array(rows)


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

COMMAND: CommandSpec = CommandSpec(
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
