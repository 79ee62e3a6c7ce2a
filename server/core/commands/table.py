"""The table of all commands."""

from __future__ import annotations

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
from server.core.commands.registry import commands_by_name, enter_commands, find_command
from server.core.commands.spec import CommandSpec

__all__ = ["COMMANDS", "commands_by_name", "find_command"]

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

enter_commands(COMMANDS, connection.UNLISTED)
