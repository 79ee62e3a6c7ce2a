"""Commands with subcommands: the container, and its HELP, which is made from the specs of the subcommands."""

from __future__ import annotations

from collections.abc import Sequence

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.command_arguments import shown_usage
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.services.services import Services


def _never(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise AssertionError("of a container only the subcommands run")


def container(
    name: str,
    summary: str,
    group: str,
    subcommands: tuple[CommandSpec, ...],
    since: str = "1.0.0",
    refused: tuple[CommandSpec, ...] = (),
    help_since: str = "",
) -> CommandSpec:
    """A command that consists of its subcommands and their HELP, which leaves out those that are `refused`."""
    help_spec = helper(name, group, subcommands, since=help_since or max(since, "5.0.0"))
    return CommandSpec(
        name,
        -2,
        IMMEDIATE,
        _never,
        summary,
        group,
        since=since,
        complexity="Depends on subcommand.",
        subcommands=(*subcommands, *refused, help_spec),
    )


def helper(
    name: str, group: str, subcommands: tuple[CommandSpec, ...], lines: Sequence[str] = (), since: str = "5.0.0"
) -> CommandSpec:
    """The subcommand HELP, in Redis' format; `lines` come before the subcommands."""
    return CommandSpec(
        f"{name}|help",
        2,
        IMMEDIATE,
        _helping(name, subcommands, lines),
        "Lists the subcommands.",
        group,
        "loading stale connection" if name == "command" else "loading stale",
        since=since,
    )


def _helping(name: str, subcommands: tuple[CommandSpec, ...], lines: Sequence[str]) -> Handler:
    help_lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", *lines]
    for spec in subcommands:
        help_lines.append(f"{spec.name.rpartition('|')[2].upper()} {shown_usage(spec.arguments)}".rstrip())
        help_lines.append(f"    {spec.summary}")
    help_lines += ["HELP", "    Prints this help."]
    reply = resp.array([resp.simple(line) for line in help_lines])
    return lambda services, sink, number, args: reply
