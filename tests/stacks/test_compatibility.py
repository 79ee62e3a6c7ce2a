"""docs/compatibility.md is the page that the command table and the stacks' tests make."""

from __future__ import annotations

from server.core.commands.table import COMMANDS
from tests.stacks.compatibility import _WHY_NOT, FOLDER, PAGE, page, stacks


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make pages`"


def test_every_stack_names_its_packages_and_tells_what_is_tested() -> None:
    for kind in stacks():
        assert kind.packages and kind.__doc__, kind


def test_no_command_that_is_there_is_said_to_be_missing() -> None:
    ours = {name for top in COMMANDS for spec in (top, *top.subcommands) for name in (spec.name,)}
    assert not _WHY_NOT.keys() & ours
    names = {line.split()[1] for line in (FOLDER / "redis-7.4-commands.txt").read_text().splitlines()}
    assert all(name in names or any(each.startswith(f"{name}|") for each in names) for name in _WHY_NOT)
