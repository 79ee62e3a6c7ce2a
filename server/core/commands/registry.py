"""The commands by name: for those who run them, and for COMMAND, which shows them and is one of them.

table.py enters all commands here when it is imported, so that COMMAND (command_docs.py) can show a table that it is in.
Import these functions from table.py: then the table is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from server.core.base.errors import ErrorReply, unknown_command, unknown_subcommand, wrong_arity
from server.core.commands.spec import CommandSpec

_LISTED: list[CommandSpec] = []
_UNLISTED: list[CommandSpec] = []  # those that COMMAND does not show


def enter_commands(listed: Sequence[CommandSpec], unlisted: Sequence[CommandSpec]) -> None:
    """Enters all commands; called once."""
    assert not _LISTED, "the commands were entered already"
    _LISTED.extend(listed)
    _UNLISTED.extend(unlisted)


def listed_commands() -> Sequence[CommandSpec]:
    """The commands that COMMAND shows."""
    assert _LISTED, "nobody has imported table.py"
    return _LISTED


def every_command() -> Sequence[CommandSpec]:
    """All commands, those included that COMMAND does not show."""
    return (*listed_commands(), *_UNLISTED)


@cache
def commands_by_name() -> dict[bytes, CommandSpec]:
    """Commands by their names in lower and in upper case, which is how clients nearly always write them."""
    table = {}
    for spec in every_command():
        table[spec.name.encode()] = spec
        table[spec.name.upper().encode()] = spec
    return table


@cache
def commands_for_nodes() -> frozenset[str]:
    """The names of the commands that only nodes send each other (internal.py)."""
    return frozenset([spec.name for spec in _UNLISTED if spec.group == "dyn"])


@cache
def commands_for_clients() -> dict[bytes, CommandSpec]:
    """As `commands_by_name`, without those for nodes: to a client these do not exist."""
    hidden = commands_for_nodes()
    return {name: spec for name, spec in commands_by_name().items() if spec.name not in hidden}


def tells_misses(args: list[bytes]) -> bool:
    """Whether a key that a command does not find is a miss, as in Redis: it changes nothing, or is GETDEL or GETEX; it is
    not OBJECT."""
    spec = find_command(args)
    if spec is None or spec.name.startswith("object|"):
        return False
    return "readonly" in spec.flags.split() or spec.name in ("getdel", "getex")


def unfit(spec: CommandSpec | None, args: list[bytes]) -> ErrorReply:
    """Redis' error for a call of no command, or with a wrong number of arguments."""
    if spec is not None:
        return wrong_arity(spec.name)
    container = commands_for_clients().get(args[0].lower())
    if container is None:
        return unknown_command(args)
    return unknown_subcommand(container.name, args) if len(args) > 1 else wrong_arity(container.name)


def find_for_client(args: list[bytes]) -> CommandSpec | None:
    """The command that a client calls with `args`."""
    spec = find_command(args)
    return None if spec is not None and spec.name in commands_for_nodes() else spec


def find_command(args: list[bytes]) -> CommandSpec | None:
    """The command that `args` call, in any case; of a command with subcommands, the subcommand."""
    table = commands_by_name()
    spec = table.get(args[0]) or table.get(args[0].lower())
    if spec is None or not spec.subcommands:
        return spec
    if len(args) < 2:
        return spec if spec.accepts(1) else None  # COMMAND is the only container that runs without a subcommand
    name = args[1].lower().decode("utf-8", "replace")
    return next((sub for sub in spec.subcommands if sub.name.rpartition("|")[2] == name), None)
