"""The manual page of the commands is the one that their table makes."""

from __future__ import annotations

from pathlib import Path

from server.core.commands.table import COMMANDS
from server.manual import page

PAGE = Path(__file__).parent.parent.parent / "man" / "dyn-commands.7"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make pages`"


def test_every_command_has_a_summary_and_tells_its_arguments() -> None:
    for top in COMMANDS:
        for spec in top.subcommands or (top,):
            assert spec.summary.endswith("."), f"{spec.name} has no summary"
            subcommand = "|" in spec.name
            assert spec.arguments or abs(spec.arity) <= 1 + subcommand, f"{spec.name} does not tell its arguments"
