"""dyn siblings list, show and resolve against a scripted node."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.scripted import Reply, ScriptedNode
from tests.cli.test_app import on_terminal
from tests.cli.test_repair_commands import one_by_one

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]


def key(name: Any, key_type: str, siblings: int, deletions: int = 0, **hidden: int) -> dict[str, Any]:
    return {"key": name, "type": key_type, "siblings": siblings, "deletions": deletions, "hidden": hidden,
            "partition": 5}  # fmt: skip


def page(*keys: dict[str, Any], cursor: int = 0, unlisted: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"cursor": cursor, "examined": 100, "keys": list(keys), "unlisted": list(unlisted)}


PAGES = [
    page(key("cart:1", "string", 2), key("cart:2", "set", 0, hash=2, string=1), cursor=7),
    page(cursor=9),
    page(key("old", "none", 1, 1), key({"base64": "/w=="}, "string", 1, 1), key("a b", "string", 3)),
]


def test_all_pages_are_one_table(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SIBLINGS LIST": one_by_one(PAGES)})
    got = dyn(node, "siblings", "list", "--match", "*")
    assert (got.exit_code, got.stderr) == (0, "keys: 100 looked at so far, 2 with siblings\n")
    assert got.stdout.splitlines() == [
        "KEY     TYPE    VALUES  DELETIONS  HIDDEN           PARTITION  DO",
        "cart:1  string       2          0  -                5          resolve",
        "cart:2  set          0          0  hash:2 string:1  5          resolve or resolve --keep hash or "
        "resolve --keep string",
        "old     none         1          1  -                5          resolve or resolve --keep string",
        "'\\xff'  string       1          1  -                5          resolve",
        "'a b'   string       3          0  -                5          resolve",
    ]
    assert [words[2:] for words in node.calls] == [
        [cursor, b"COUNT", b"1000", b"MATCH", b"*"] for cursor in (b"0", b"7", b"9")
    ]


def test_one_document_of_all_pages(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.SIBLINGS LIST": one_by_one(PAGES)}), "siblings", "list", "--json")
    assert (got.exit_code, got.stderr) == (0, "")
    keys = [each for page in PAGES for each in page["keys"]]
    assert json.loads(got.stdout) == {"keys": keys, "examined": 300, "unlisted": []}


def test_partitions_that_nobody_answered_for_are_named(scripted: Scripted, dyn: Dyn) -> None:
    pages = [page(key("k", "string", 2), cursor=7, unlisted=(3, 4)), page(unlisted=(9,))]
    got = dyn(scripted({"DYN.SIBLINGS LIST": one_by_one(pages)}), "siblings", "list")
    assert got.exit_code == 4 and got.stdout.splitlines()[-1].startswith("k    string")
    assert got.stderr.splitlines()[1].startswith("dyn: too few nodes answered for partitions 3-4 9; dyn cluster status")


def test_all_partitions_are_one_word(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SIBLINGS LIST": one_by_one([page(unlisted=tuple(range(128)))])})
    got = dyn(node, "siblings", "list")
    assert got.exit_code == 4 and "for partitions 0-127; dyn" in got.stderr


def test_on_a_terminal(scripted: Scripted) -> None:
    node = scripted({"DYN.SIBLINGS LIST": one_by_one(PAGES)})
    status, shown = on_terminal("--port", str(node.port), "siblings", "list", columns=120)
    assert status == 0 and "cart:2" in shown and "hash:2 string:1" in shown and "keys: " not in shown


def test_no_siblings(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.SIBLINGS LIST": page()}), "siblings", "list")
    assert (got.exit_code, got.stdout, got.stderr) == (0, "no siblings under 100 keys\n", "")
    got = dyn(scripted({"DYN.SIBLINGS LIST": page() | {"examined": 1}}), "siblings", "list")
    assert got.stdout == "no siblings under 1 key\n"


@pytest.mark.parametrize("document", [{}, page() | {"cursor": "x"}, page({"key": "k"}), page() | {"keys": [1]}])
def test_documents_out_of_shape_are_errors(scripted: Scripted, dyn: Dyn, document: dict[str, Any]) -> None:
    got = dyn(scripted({"DYN.SIBLINGS": document}), "siblings", "list")
    assert (got.exit_code, got.stdout) == (1, "") and "is it a dyn node?" in got.stderr


SHOWN = key("k", "string", 2, hash=2) | {"conflict": True, "choices": ["string", "hash"], "context": "abc"}


def test_show(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SIBLINGS SHOW": SHOWN, "DYN.GET": [b"abc", [b"one", b"two"]]})
    got = dyn(node, "siblings", "show", "k")
    assert (got.exit_code, got.stderr) == (0, "")
    assert got.stdout.splitlines() == [
        "key        k",
        "type       string",
        "partition  5",
        "deletions  0",
        "hidden     hash:2",
        "value      'one'",
        "value      'two'",
        "do         resolve or resolve --keep hash",
    ]
    assert json.loads(dyn(node, "siblings", "show", "k", "--json").stdout) == SHOWN | {"values": ["one", "two"]}
    whole = key("k", "hash", 0) | {"conflict": False, "choices": [], "context": "abc"}
    got = dyn(scripted({"DYN.SIBLINGS SHOW": whole}), "siblings", "show", "k")
    assert got.exit_code == 0 and got.stdout.endswith("do         nothing: there is nothing to decide\n")
    absent = key("k", "none", 0) | {"conflict": False, "choices": [], "context": None}
    assert dyn(scripted({"DYN.SIBLINGS SHOW": absent}), "siblings", "show", "k").exit_code == 1


def test_resolve(scripted: Scripted, dyn: Dyn) -> None:
    resolved = key("k", "string", 2, hash=2) | {"kept": "hash", "context": "new"}
    node = scripted({"DYN.SIBLINGS RESOLVE": resolved})
    got = dyn(node, "siblings", "resolve", "k", "--keep", "hash", "--context", "abc")
    assert (got.exit_code, got.stdout, got.stderr) == (0, "kept: hash; superseded: the string\n", "")
    assert node.calls == [[b"DYN.SIBLINGS", b"RESOLVE", b"k", b"KEEP", b"hash", b"CONTEXT", b"abc"]]
    assert json.loads(dyn(node, "siblings", "resolve", "k", "--json").stdout) == resolved
    assert dyn(node, "siblings", "resolve", "k", "--keep", "hash", "--value", "v").exit_code == 2


@pytest.mark.parametrize("context", [None, "older"])
def test_resolve_to_a_value(scripted: Scripted, dyn: Dyn, context: str | None) -> None:
    node = scripted({"DYN.SIBLINGS SHOW": SHOWN, "DYN.SET": [b"new", 3, 0]})
    options = [] if context is None else ["--context", context]
    got = dyn(node, "siblings", "resolve", "k", "--value", "v", *options, "--json")
    expected = key("k", "string", 2, hash=2) | {"kept": "string", "context": "new"}
    assert (got.exit_code, json.loads(got.stdout)) == (0, expected)
    assert node.calls[1] == [b"DYN.SET", b"k", b"v", b"CONTEXT", (context or "abc").encode()]


def test_a_refusal_is_shown(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SIBLINGS RESOLVE": "-ERR there is nothing to decide"})
    got = dyn(node, "siblings", "resolve", "k")
    assert got.exit_code == 1 and "there is nothing to decide" in got.stderr
