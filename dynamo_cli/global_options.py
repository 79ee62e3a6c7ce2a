"""The global options behind a command as well as before it: `dyn get k --port 7001` is `dyn --port 7001 get k`.

Each command and group gets hidden copies of the options of the root, except those whose spelling it uses itself. What is
given behind the command overrides what is given before it.

All of them say which node is asked, and how. A command that starts nodes refuses them: an option without effect would leave
`dyn node start --port 7002` on port 7001, and `dyn node start --password-file FILE` without a password. Other commands that
ask no node ignore them, so that scripts may give them always.
"""

from __future__ import annotations

import copy
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dynamo_cli.failures import WrongUsage

_PREFIX = "global_"  # of the names of the copies, so that none has the name of a command's own parameter
_SUMMARY_MAX = 1000  # characters: more than any summary has
_ONLY_BEFORE = ("version", "help")


def copies_for(root: Any, own: list[Any]) -> list[Any]:
    """The options of the root that a command with these parameters of its own takes, too."""
    taken = {spelling for parameter in own for spelling in (*parameter.opts, *parameter.secondary_opts)}
    copies = []
    for option in root.params:
        if option.name not in _ONLY_BEFORE and not taken.intersection(option.opts):
            copied = copy.copy(option)
            copied.name, copied.hidden = _PREFIX + option.name, True
            copies.append(copied)
    return copies


def apply_global_options(context: Any) -> None:
    """Takes the copies out of the parameters of a command, and gives the root's callback those that were given."""
    root = context.find_root()
    given: dict[str, Any] = {}
    for name in [name for name in context.params if name.startswith(_PREFIX)]:
        value = context.params.pop(name)
        if context.get_parameter_source(name).name == "COMMANDLINE":
            given[name.removeprefix(_PREFIX)] = value
    if given:
        root.params |= given
        root.invoke(root.command.callback, **root.params)


def refuse_global_options(context: Any) -> None:
    """Raises WrongUsage if an option of the root was given, before the command or behind it."""
    root = context.find_root()
    for option in root.command.params:
        places = [(root, option.name), (context, _PREFIX + option.name)]
        sources = [place.get_parameter_source(name) for place, name in places]
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise WrongUsage(
                f"{context.command_path} asks no node, so {option.opts[0]} has no effect",
                f"{context.command_path} --help shows what it takes",
            )


class _Taking:
    """A command or group that takes the global options, too."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own parameters and the copies."""
        own = super().get_params(ctx)  # type: ignore[misc]
        return [*own, *copies_for(ctx.find_root().command, own)]

    def invoke(self, ctx: Any) -> Any:
        """Runs the command on the target that all options name."""
        apply_global_options(ctx)
        return super().invoke(ctx)  # type: ignore[misc]


class Command(_Taking, TyperCommand):
    """A command that takes the global options, too."""


class Starting(Command):
    """A command that starts nodes, and refuses the global options."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command if no option names a node."""
        refuse_global_options(ctx)
        return super().invoke(ctx)


class Listing(TyperGroup):
    """A group whose help shows the first sentence about each command as a whole, wrapped where it must be."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Lists the commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(_SUMMARY_MAX))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Group(_Taking, Listing):
    """A group that takes the global options, too."""


class App(typer.Typer):
    """A Typer app whose commands take the global options, too."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **settings: Any) -> Any:
        """As Typer's."""
        return super().command(name, cls=cls, **settings)
