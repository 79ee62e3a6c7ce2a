"""The table of all commands."""

from __future__ import annotations

from server.core.commands import (
    acl_command,
    bitfield,
    bitop,
    bits,
    cluster,
    config_command,
    connection,
    counters,
    database_commands,
    debug_command,
    dynamo,
    geo_commands,
    hints_command,
    hyperloglogs,
    introspection,
    keys,
    keyspace,
    latency_command,
    lcs,
    login,
    membership_command,
    memory_command,
    monitor_command,
    object_command,
    operator,
    renaming,
    repair_command,
    serialization,
    server_roles,
    siblings_command,
    slowlog_command,
    sort_command,
    string_edits,
    strings,
    swapdb,
    trace_command,
    typed_steps,
    wait_command,
    waitaof_command,
)
from server.core.commands.audited import with_audit
from server.core.commands.blocking import commands as blocking_commands
from server.core.commands.blocking import tries
from server.core.commands.hashes import commands as hash_commands
from server.core.commands.hashes import expiry_commands
from server.core.commands.lists import commands as list_commands
from server.core.commands.pubsub import commands as pubsub_commands
from server.core.commands.registry import (
    commands_by_name,
    commands_for_clients,
    enter_commands,
    find_command,
    find_for_client,
)
from server.core.commands.scripting import eval_commands, fcall_commands, function_command, script_command
from server.core.commands.scripting import steps as script_steps
from server.core.commands.sets import commands as set_commands
from server.core.commands.sorted_sets import edit_commands, query_commands
from server.core.commands.spec import CommandSpec
from server.core.commands.streams import commands as stream_commands
from server.core.commands.transactions import commands as transaction_commands
from server.core.commands.transactions import relayed, watches

__all__ = ["COMMANDS", "commands_by_name", "commands_for_clients", "find_command", "find_for_client"]

_ALL: tuple[CommandSpec, ...] = (
    *connection.COMMANDS,
    *login.COMMANDS,
    acl_command.ACL,
    *strings.COMMANDS,
    *counters.COMMANDS,
    *hash_commands.COMMANDS,
    *expiry_commands.COMMANDS,
    *set_commands.COMMANDS,
    *edit_commands.COMMANDS,
    *query_commands.COMMANDS,
    *geo_commands.COMMANDS,
    *string_edits.COMMANDS,
    *bits.COMMANDS,
    *bitfield.COMMANDS,
    *bitop.COMMANDS,
    *lcs.COMMANDS,
    *hyperloglogs.COMMANDS,
    *list_commands.COMMANDS,
    *blocking_commands.COMMANDS,
    *stream_commands.COMMANDS,
    *keys.COMMANDS,
    *database_commands.COMMANDS,
    *swapdb.COMMANDS,
    *renaming.COMMANDS,
    *serialization.COMMANDS,
    *sort_command.COMMANDS,
    *wait_command.COMMANDS,
    *waitaof_command.COMMANDS,
    *eval_commands.COMMANDS,
    *fcall_commands.COMMANDS,
    script_command.SCRIPT,
    function_command.FUNCTION,
    *transaction_commands.COMMANDS,
    *pubsub_commands.COMMANDS,
    *object_command.COMMANDS,
    *memory_command.COMMANDS,
    *keyspace.COMMANDS,
    *dynamo.COMMANDS,
    *siblings_command.COMMANDS,
    *membership_command.COMMANDS,
    *operator.COMMANDS,
    *hints_command.COMMANDS,
    *config_command.COMMANDS,
    *repair_command.COMMANDS,
    *trace_command.COMMANDS,
    *cluster.COMMANDS,
    *introspection.COMMANDS,
    *slowlog_command.COMMANDS,
    *latency_command.COMMANDS,
    *monitor_command.COMMANDS,
    *debug_command.COMMANDS,
    *server_roles.COMMANDS,
)
COMMANDS: tuple[CommandSpec, ...] = tuple([with_audit(spec) for spec in _ALL])

enter_commands(
    COMMANDS,
    (
        *connection.UNLISTED,
        *typed_steps.UNLISTED,
        *renaming.UNLISTED,
        *hyperloglogs.UNLISTED,
        *list_commands.UNLISTED,
        *tries.UNLISTED,
        *script_steps.UNLISTED,
        *watches.UNLISTED,
        *relayed.UNLISTED,
    ),
)
