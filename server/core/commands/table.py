"""The table of all commands."""

from __future__ import annotations

from functools import cache

from server.core.commands import (
    cluster,
    connection,
    dynamo,
    hints_command,
    introspection,
    keys,
    keyspace,
    membership_command,
    operator,
    repair_command,
    strings,
)
from server.core.commands.spec import CommandSpec

COMMANDS: tuple[CommandSpec, ...] = (
    *connection.COMMANDS,
    *strings.COMMANDS,
    *keys.COMMANDS,
    *keyspace.COMMANDS,
    *dynamo.COMMANDS,
    *membership_command.COMMANDS,
    *operator.COMMANDS,
    *hints_command.COMMANDS,
    *repair_command.COMMANDS,
    *cluster.COMMANDS,
    *introspection.COMMANDS,
)


@cache
def commands_by_name() -> dict[bytes, CommandSpec]:
    """Commands by their name in lower and in upper case, as clients nearly always write them."""
    table = {}
    for spec in (*COMMANDS, *connection.UNLISTED):
        table[spec.name.encode()] = spec
        table[spec.name.upper().encode()] = spec
    return table


def find_command(args: list[bytes]) -> CommandSpec | None:
    """The command that `args` call, in any case; of a command with subcommands, the subcommand."""
    table = commands_by_name()
    spec = table.get(args[0]) or table.get(args[0].lower())
    if spec is None or not spec.subcommands:
        return spec
    if len(args) < 2:
        return spec if spec.accepts(1) else None  # of the containers only COMMAND stands by itself
    name = args[1].lower().decode("utf-8", "replace")
    return next((sub for sub in spec.subcommands if sub.name.rpartition("|")[2] == name), None)
