"""The facts of COMMAND INFO, DOCS, LIST and GETKEYS are those of redis-server, for every command that both have.

Ours are asked of a node in this process: facts need no cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import hiredis
import pytest

from server.core.commands.deviations import FACTS, deviation_of
from server.core.commands.table import find_command
from tests.core.commands.talking import Client, make_node
from tests.wire.differential.hunt import is_used
from tests.wire.differential.sequences import sequences
from tests.wire.differential.servers import Asker, redis_server, redis_version

pytestmark = pytest.mark.skipif(
    redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed"
)
POLICY = ("request_policy:", "response_policy:")  # see DEVIATIONS
SEED, CALLS = 3, 4000


class Both:
    """A redis-server, and a node of ours in this process."""

    def __init__(self, redis_port: int) -> None:
        self.redis = Asker(redis_port, 2)
        self.ours = Client(make_node())

    def ask(self, line: str) -> tuple[Any, Any]:
        """Both replies to a line of words."""
        reader = hiredis.Reader(encoding="utf-8")
        reader.feed(self.redis.ask(tuple(line.encode().split())))
        return reader.gets(), self.ours.ask(line)

    def names(self) -> list[str]:
        """The commands and subcommands that both have."""
        theirs, ours = self.ask("COMMAND LIST")
        return sorted({*theirs} & {*ours})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both servers."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        servers = Both(port)
        yield servers
        servers.redis.close()


def _facts(entry: list[Any]) -> dict[str, Any]:
    """An entry of COMMAND INFO by names, without an order where it has none."""
    fields = ("arity", "flags", "first", "last", "step", "categories", "tips", "keys")
    facts = dict(zip(fields, entry[1:9], strict=True))
    for name in ("flags", "categories"):
        facts[name] = sorted(facts[name])
    facts["tips"] = sorted([tip for tip in facts["tips"] if not tip.startswith(POLICY)])
    specs = [dict(zip(spec[::2], spec[1::2], strict=True)) for spec in facts["keys"]]
    facts["keys"] = [spec | {"flags": sorted(spec["flags"])} for spec in specs]
    return facts


def test_command_info(both: Both) -> None:
    names = both.names()
    theirs, ours = both.ask("COMMAND INFO " + " ".join(names))
    wrong = [
        f"{field} of {name}: {_facts(our)[field]} instead of {value}"
        for name, their, our in zip(names, theirs, ours, strict=True)
        for field, value in _facts(their).items()
        if (name, field) not in FACTS and _facts(our)[field] != value
    ]
    assert wrong == [], "\n".join(wrong)


def _shape(arguments: list[list[Any]]) -> list[Any]:
    """The tree of arguments without the names that group and date them."""
    shapes = []
    for argument in arguments:
        facts = dict(zip(argument[::2], argument[1::2], strict=True))
        parts = facts.get("arguments")
        name = (
            ""
            if parts or facts["type"] == "pure-token"
            else facts["name"].replace("unix-time-seconds", "unix-time").replace("milliseconds", "ms")
        )
        shapes.append(
            [name, facts["type"], facts.get("token"), sorted(facts.get("flags", [])), _shape(parts) if parts else None]
        )
    return shapes


def test_command_docs(both: Both) -> None:
    names = both.names()
    told = both.ask("COMMAND DOCS " + " ".join(names))
    theirs, ours = (dict(zip(docs[::2], docs[1::2], strict=True)) for docs in told)
    wrong: list[str] = []
    for name in names:
        their, our = (dict(zip(docs[name][::2], docs[name][1::2], strict=True)) for docs in (theirs, ours))
        facts = [
            {field: docs.get(field) for field in ("since", "group", "doc_flags", "deprecated_since", "replaced_by")}
            for docs in (their, our)
        ]
        if facts[0] != facts[1]:
            wrong.append(f"{name}: {facts[1]} instead of {facts[0]}")
        assert our["summary"] and our["complexity"], name
        shapes = [_shape(docs.get("arguments", [])) for docs in (their, our)]
        if (name, "arguments") not in FACTS and shapes[0] != shapes[1]:
            wrong.append(f"arguments of {name}: {shapes[1]} instead of {shapes[0]}")
    assert wrong == [], "\n".join(wrong)


def test_categories_and_patterns_list_the_same_commands(both: Both) -> None:
    names = {*both.names()}
    categories = (
        "keyspace read write set sortedset list hash string bitmap hyperloglog geo admin fast slow blocking dangerous"
    )
    for category in [*categories.split(), "connection"]:
        theirs, ours = both.ask(f"COMMAND LIST FILTERBY ACLCAT {category}")
        odd = {name for name, field in FACTS if field == "categories"}
        assert {*theirs} & names - odd == {*ours} & names - odd, category
    theirs, ours = both.ask("COMMAND LIST FILTERBY PATTERN *e?*")
    assert {*theirs} & names == {*ours} & names


@pytest.mark.parametrize("question", [b"GETKEYS", b"GETKEYSANDFLAGS"])
def test_keys_of_random_calls(both: Both, question: bytes) -> None:
    """Keys are found where Redis finds them, also in calls that are wrong."""
    found = [find_command(list(name.encode().split(b"|"))) for name in both.names()]
    specs = [spec for spec in found if spec and is_used(spec) and (spec.name, "arity") not in FACTS]
    calls = [call for sequence in islice(sequences(specs, SEED), CALLS // 20) for call in sequence.commands()][:CALLS]
    wrong = []
    for call, theirs in zip(calls, both.redis.ask_each([(b"COMMAND", question, *call) for call in calls]), strict=True):
        args = [b"COMMAND", question, *call]
        ours = both.ours.raw_words(args)
        name = f"command|{question.decode().lower()}"
        if ours != theirs and deviation_of(name, args, theirs, ours) is None:
            wrong.append((call, theirs, ours))
    assert wrong == []
