"""`python -m dynamo_cli.pages [DIRECTORY]`: writes `man/` and `completions/` anew from the app.

The app says once what each command does; pages written by hand would differ from it sooner or later. So the pages are
made from it, and kept in the repository for those who only install them; a test compares them. Nothing in them depends on
the clock, the terminal or the machine. Only files that this module makes are touched: other pages in `man/` are written
by hand. A page made here whose command is gone is removed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from typer.completion import get_completion_script  # type: ignore[attr-defined]
from typer.main import get_command

from dynamo_cli import roff
from dynamo_cli.app import COMPLETE_VARIABLE
from dynamo_cli.commands import app
from dynamo_cli.examples import EXAMPLES

MANUAL = "dyn manual"
MARK = '.\\" Made by python -m dynamo_cli.pages: edit the commands, not this page.'
COMPLETIONS = {"bash": "dyn.bash", "zsh": "_dyn", "fish": "dyn.fish"}  # names under which the shells look for them

_STATUSES = (
    ("0", "Success."),
    ("1", "The operation failed, or nothing is stored under the key."),
    ("2", "Wrong usage."),
    ("3", "No node could be reached, or it did not answer in time."),
    ("4", "The cluster answered, but it is degraded."),
    ("5", "The cluster answered, but some keys are not served: it is unavailable."),
    (
        "6",
        "Too few replicas answered in time. The command may be tried again; stderr says whether it may have been done.",
    ),
)
_DYN_URL = (
    "The node to talk to without --host and --port, such as redis://127.0.0.1:7001. Of several ones, such as "
    "redis://10.0.0.1:7001,10.0.0.2:7001, the first that answers."
)
_VARIABLES = (("DYN_URL", _DYN_URL), ("DYN_DEBUG", "If set, a bug in dyn shows its traceback."))
_PASSWORDS = (
    ("DYN_PASSWORD_FILE", "A file whose first line is the password, if --password-file is not given."),
    ("DYN_PASSWORD", "The password itself, if neither --password-file nor DYN_PASSWORD_FILE is given."),
)
_NODE_VARIABLES = (
    ("DYN_SECRET_FILE", "The file of the secret of the cluster, if --secret-file is not given."),
    ("DYN_SECRET", "The secret itself, if neither --secret-file nor DYN_SECRET_FILE is given."),
    ("DYN_<NAME>", "The setting of that name, such as DYN_FLUSHALL=yes. It overrides the file of --config."),
)


class ManPage(NamedTuple):
    """A command with a page of its own. `words` is what a user types: ("dyn", "ring", "show")."""

    words: tuple[str, ...]
    command: Any  # a click command; its class depends on Typer's release

    @property
    def name(self) -> str:
        """The name of the page, for example `dyn-ring-show`."""
        return "-".join(self.words)

    @property
    def summary(self) -> str:
        """The first paragraph of the help, in the form of the section NAME."""
        first = " ".join(self.command.help.split("\n\n")[0].split()).rstrip(".")
        return first[:1].lower() + first[1:]


def main() -> None:
    """Writes into the given directory, or into the one above the package."""
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent)


def write(directory: Path) -> None:
    """Writes `man/*.1` and `completions/*` under `directory`, and removes pages of commands that are gone."""
    pages = tuple(walk(get_command(app), ("dyn",)))
    made = {directory / "man" / f"{page.name}.1": render(page, pages) for page in pages}
    for shell, name in COMPLETIONS.items():
        script = get_completion_script(prog_name="dyn", complete_var=COMPLETE_VARIABLE, shell=shell)
        made[directory / "completions" / name] = script.strip() + "\n"
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in (directory / "man").iterdir():
        if path not in made and path.is_file() and path.read_text().startswith(MARK):
            path.unlink()


def walk(command: Any, words: tuple[str, ...]) -> Iterator[ManPage]:
    """The root, then every command that can be run, in the order of the help. Groups have no page."""
    children = getattr(command, "commands", {})
    if not children or len(words) == 1:
        yield ManPage(words, command)
    for name, child in children.items():
        if not child.hidden:
            yield from walk(child, (*words, name))


def render(page: ManPage, pages: tuple[ManPage, ...]) -> str:
    """The roff source of a page."""
    is_root = len(page.words) == 1
    command_help = page.command.help
    lines = [
        MARK,
        roff.title(page.name, 1, f"dyn {version('dyn')}", MANUAL),
        roff.heading("NAME"),
        f"{roff.escape(page.name)} \\- {roff.escape(page.summary)}",
        roff.heading("SYNOPSIS"),
        *_synopsis(page),
        roff.heading("DESCRIPTION"),
        *roff.paragraphs(command_help),
    ]
    if is_root:
        lines += [roff.heading("COMMANDS"), *_commands(pages)]
    arguments = [parameter for parameter in page.command.params if parameter.param_type_name == "argument"]
    if arguments:
        lines.append(roff.heading("ARGUMENTS"))
        for argument in arguments:
            lines += roff.entry(roff.italic(argument.metavar), argument.help)
    lines += [roff.heading("OPTIONS"), *_options(page, is_root)]
    lines.append(roff.heading("EXIT STATUS"))
    for status, meaning in _STATUSES:
        lines += roff.entry(roff.bold(status), meaning)
    lines.append(roff.heading("EXAMPLES"))
    for example in EXAMPLES[" ".join(page.words)]:
        lines += roff.example(*example)
    lines.append(roff.heading("ENVIRONMENT"))
    for variable, meaning in _variables(page):
        lines += roff.entry(roff.bold(variable), meaning)
    lines += [roff.heading("SEE ALSO"), *_see_also(page, pages)]
    return "\n".join(lines) + "\n"


def _synopsis(page: ManPage) -> list[str]:
    """The command line: options in brackets, required ones without, then the arguments."""
    if len(page.words) == 1:
        return [
            f"{roff.bold('dyn')} [{roff.italic('OPTION')}]... {roff.italic('COMMAND')} [{roff.italic('ARGUMENT')}]..."
        ]
    options = [parameter for parameter in page.command.params if parameter.param_type_name == "option"]
    required = [f"{roff.bold(option.opts[0])} {roff.italic(option.metavar)}" for option in options if option.required]
    arguments = [
        roff.italic(parameter.metavar) for parameter in page.command.params if parameter.param_type_name == "argument"
    ]
    before = f"{roff.bold('dyn')} [{roff.italic('GLOBAL OPTION')}]... {roff.bold(' '.join(page.words[1:]))}"
    return [" ".join((before, *required, f"[{roff.italic('OPTION')}]...", *arguments))]


def _options(page: ManPage, is_root: bool) -> list[str]:
    lines: list[str] = []
    for option in page.command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        tag = ", ".join(roff.bold(name) for name in option.opts)
        if not option.is_flag:
            tag += f" {roff.italic(option.metavar)}"
        lines += roff.entry(tag, f"{option.help} {_default(option)}".strip())
    lines += roff.entry(roff.bold("--help"), "Show a short help and exit.")
    if not is_root:
        lines += [
            ".PP",
            f"The global options, which stand before the command or behind it, are in {_reference('dyn', 1)}.",
        ]
    return lines


def _variables(page: ManPage) -> tuple[tuple[str, str], ...]:
    """The variables of the environment that the command reads, and what they mean."""
    if len(page.words) == 1:
        return _VARIABLES + _PASSWORDS + _NODE_VARIABLES
    return _VARIABLES + (_NODE_VARIABLES if page.words == ("dyn", "node", "start") else ())


def _default(option: Any) -> str:
    if option.required:
        return "Required."
    if isinstance(option.show_default, str):
        return f"Default: {option.show_default}."
    if option.is_flag or not option.show_default or option.default is None:
        return ""
    default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
    return f"Default: {default}."


def _commands(pages: tuple[ManPage, ...]) -> list[str]:
    lines: list[str] = []
    for page in pages[1:]:
        lines += [".TP", _reference(page.name, 1), roff.prose(page.summary[:1].upper() + page.summary[1:] + ".")]
    return lines


def _see_also(page: ManPage, pages: tuple[ManPage, ...]) -> list[str]:
    others = [_reference(other.name, 1) for other in pages if other is not page]
    if len(page.words) == 1:
        others += [_reference("dyn.toml", 5), _reference("dyn-commands", 7)]
    elif page.words[1] == "config" or page.words == ("dyn", "node", "start"):
        others.append(_reference("dyn.toml", 5))
    return [", ".join(others)]


def _reference(name: str, section: int) -> str:
    return f"{roff.bold(name)}({section})"


if __name__ == "__main__":
    main()
