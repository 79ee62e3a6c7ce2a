"""The manual page of the commands is the one that their table makes."""

from __future__ import annotations

from pathlib import Path

from server.core.commands.deviations import DEVIATIONS, FACTS
from server.core.commands.partitions import partition_sentence
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


def test_every_command_of_keys_says_what_happens_during_a_partition() -> None:
    sentences = {spec.name: partition_sentence(spec) for top in COMMANDS for spec in (top.subcommands or (top,))}
    assert [name for name in ("ping", "config|get", "command|info") if sentences[name]] == []
    for top in COMMANDS:
        for spec in top.subcommands or (top,):
            assert bool(sentences[spec.name]) >= spec.has_keys(), spec.name
    assert "the newest value is read" in sentences["set"] and "takes it" in sentences["set"]
    assert "without what the other side has written" in sentences["setnx"]
    assert "adds up" in sentences["incr"] and "siblings" in sentences["dyn.set"]
    assert sentences["get"] == sentences["scan"] == sentences["mget"]
    assert "newest value" in sentences["hset"] and "field" in sentences["hset"]
    assert sentences["hset"] in page().replace("\\-", "-")


def test_every_known_difference_is_shown() -> None:
    shown = page().replace("\\-", "-")
    assert [each.text for each in DEVIATIONS if each.text not in shown] == []
    assert [reason for reason in FACTS.values() if reason not in shown] == []
