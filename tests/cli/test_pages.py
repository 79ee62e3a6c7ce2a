"""The man pages and completions in the repository are those of the commands, and they work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from dynamo_cli import pages, roff
from dynamo_cli.commands import app
from dynamo_cli.examples import EXAMPLES

ROOT = Path(__file__).parent.parent.parent


def test_the_pages_in_the_repository_are_current(tmp_path: Path) -> None:
    pages.write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {
        path.relative_to(ROOT): path.read_text()
        for folder in ("man", "completions")
        for path in (ROOT / folder).iterdir()
        if folder == "completions" or path.read_text().startswith(pages.MARK)
    }
    assert kept == made, "run: make pages"


def test_every_command_has_a_page_and_an_example() -> None:
    names = {" ".join(page.words) for page in pages.walk(get_command(app), ("dyn",))}
    assert names == set(EXAMPLES)
    assert {"dyn", "dyn up", "dyn cluster status", "dyn node start"} < names
    assert "dyn cluster" not in names


def test_a_page_says_every_option_of_its_command() -> None:
    for page in pages.walk(get_command(app), ("dyn",)):
        text = (ROOT / "man" / f"{page.name}.1").read_text()
        for parameter in page.command.params:
            assert parameter.help
            assert parameter.metavar or parameter.is_flag
            wanted = roff.bold(parameter.opts[0]) if parameter.param_type_name == "option" else parameter.metavar
            assert wanted in text
        sections = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "ENVIRONMENT", "SEE ALSO")
        places = [text.index(f"\n.SH {section}\n") for section in sections]
        assert places == sorted(places)


def test_pages_made_by_hand_are_kept_and_stale_ones_removed(tmp_path: Path) -> None:
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "dyn-commands.7").write_text(".TH by hand")
    (tmp_path / "man" / "dyn-gone.1").write_text(f"{pages.MARK}\n.TH")
    pages.write(tmp_path)
    assert (tmp_path / "man" / "dyn-commands.7").read_text() == ".TH by hand"
    assert not (tmp_path / "man" / "dyn-gone.1").exists()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a\\b", "a\\eb"),
        (".dot\n'quote", "\\&.dot\n\\(aqquote"),
        ("a-b", "a\\-b"),
        ('"`^~', "\\(dq\\(ga\\(ha\\(ti"),
    ],
)
def test_text_is_escaped(text: str, source: str) -> None:
    assert roff.escape(text) == source


def test_options_and_commands_in_prose_are_bold() -> None:
    assert roff.prose("see dyn get --json, not dyndns") == "see \\fBdyn get\\fR \\fB\\-\\-json\\fR, not dyndns"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_warn_of() -> None:
    paths = sorted(str(path) for path in (ROOT / "man").glob("*.1"))
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", *paths], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def complete(shell_script: str) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    script = f"source {ROOT}/completions/dyn.bash\n{shell_script}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("dyn", "clu"), "cluster"), (("dyn", "ring", ""), "show locate"), (("dyn", "up", "--fsync", "e"), "everysec")],
)
def test_bash_completes(words: tuple[str, ...], expected: str) -> None:
    line = " ".join(f"'{word}'" for word in words)
    script = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _dyn_completion dyn; echo "${{COMPREPLY[*]}}"'
    assert complete(script).split() == expected.split()


def _groups(group: Any, *words: str) -> Iterator[tuple[list[str], Any]]:
    """All commands that have commands, each with the words that name it."""
    yield list(words), group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _groups(command, *words, name)


@pytest.mark.parametrize("columns", [60, 80])
def test_no_summary_is_cut(columns: int) -> None:
    """The help of a group shows the whole first sentence about each command, in several lines if it must."""
    looked_at = 0
    for words, group in _groups(get_command(app)):
        shown = CliRunner().invoke(app, [*words, "--help"], prog_name="dyn", terminal_width=columns).stdout
        text = " ".join(shown.partition("\nCommands:\n")[2].split())
        for name, command in group.commands.items():
            if not command.hidden:
                assert f"{name} {command.get_short_help_str(1000)}" in text
                looked_at += 1
        assert max(map(len, shown.splitlines())) <= columns
    assert looked_at > 40
