"""dyn get, set, del against a scripted node: what is sent, what is printed where, the exit status."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from dynamo_cli.commands import app
from tests.cli.scripted import Reply, ScriptedNode, Silence
from tests.ports import free_ports

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]


def test_get_prints_the_bytes_and_one_newline(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.GET": [b"token", [b"a\x00\xff\n"]]})
    got = dyn(node, "get", "k")
    assert (got.exit_code, got.stdout_bytes, got.stderr) == (0, b"a\x00\xff\n\n", "")
    assert node.calls == [[b"DYN.GET", b"k"]]


def test_get_raw_prints_no_newline(scripted: Scripted, dyn: Dyn) -> None:
    assert dyn(scripted({"DYN.GET": [b"token", [b"a"]]}), "get", "--raw", "k").stdout_bytes == b"a"


def test_get_passes_the_read_quorum_and_keys_that_are_not_utf8(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.GET": [b"token", [b"a"]]})
    got = dyn(node, "get", b"\xff".decode("utf-8", "surrogateescape"), "--r", "1", "--json")
    assert node.calls == [[b"DYN.GET", b"\xff", b"R", b"1"]]
    assert json.loads(got.stdout) == {"key": {"base64": "/w=="}, "context": "token", "values": ["a"]}


def test_siblings_are_printed_one_a_line_and_counted_on_stderr(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.GET": [b"token", [b"a", b"b", b""]]}), "get", "k")
    assert (got.exit_code, got.stdout_bytes) == (0, b"a\nb\n\n")
    assert "3 siblings" in got.stderr
    assert "dyn set --context" in got.stderr


def test_raw_siblings_would_run_together_and_are_refused(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.GET": [b"token", [b"a", b"b"]]}), "get", "k", "--raw")
    assert (got.exit_code, got.stdout_bytes) == (1, b"")
    assert "2 siblings" in got.stderr


def test_get_json_is_one_line_in_a_pipe(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.GET": [b"token", ["grün".encode(), b"\xff"]]}), "get", "k", "--json")
    assert got.stdout == '{"key": "k", "context": "token", "values": ["grün", {"base64": "/w=="}]}\n'
    assert got.stderr == ""


@pytest.mark.parametrize("context", [None, b"token"])
def test_a_missing_key_prints_nothing_and_fails(scripted: Scripted, dyn: Dyn, context: bytes | None) -> None:
    node = scripted({"DYN.GET": [context, []]})
    got = dyn(node, "get", "k")
    assert (got.exit_code, got.stdout_bytes) == (1, b"")
    assert "nothing is stored under 'k'" in got.stderr
    got = dyn(node, "get", "k", "--json")
    token = None if context is None else "token"
    assert (got.exit_code, json.loads(got.stdout)) == (1, {"key": "k", "context": token, "values": []})


def test_set_sends_the_value_and_shows_the_acks(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SET": [b"token", 2, 1]})
    got = dyn(node, "set", "k", "v")
    assert (got.exit_code, got.stdout) == (0, "stored: acks=2 hinted=1\n")
    assert node.calls == [[b"DYN.SET", b"k", b"v"]]


def test_set_passes_every_option(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SET": [b"token", 3, 0]})
    got = dyn(node, "set", "--context", "t", "--w", "3", "--ex", "9", "--json", "--", "k", "-v")
    assert node.calls == [[b"DYN.SET", b"k", b"-v", b"EX", b"9", b"CONTEXT", b"t", b"W", b"3"]]
    assert json.loads(got.stdout) == {"key": "k", "context": "token", "acks": 3, "hinted": 0}
    dyn(node, "set", "k", "v", "--px", "5")
    assert node.calls[-1] == [b"DYN.SET", b"k", b"v", b"PX", b"5"]


def test_set_reads_stdin_byte_for_byte(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SET": [b"token", 2, 0]})
    dyn(node, "set", "k", "-", stdin=b"a\r\n\x00\xff\n")
    assert node.calls == [[b"DYN.SET", b"k", b"a\r\n\x00\xff\n"]]


@pytest.mark.parametrize(
    "words",
    [
        ("set", "k", "v", "--ex", "1", "--px", "1"),
        ("set", "k", "v", "--ex", "0"),
        ("set", "k"),
        ("set", "k", "v", "--w", "x"),
        ("set", "k", "v", "--context", "\udcff"),
        ("get", "k", "--raw", "--json"),
        ("get",),
        ("get", "k", "--r", "0"),
        ("frob",),
    ],
)
def test_wrong_usage_is_status_2_and_sends_nothing(scripted: Scripted, dyn: Dyn, words: tuple[str, ...]) -> None:
    node = scripted({})
    got = dyn(node, *words)
    assert (got.exit_code, got.stdout, node.calls) == (2, "", [])
    assert got.stderr != ""


def test_del_deletes_exactly_what_it_saw(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.GET": [b"seen", [b"a", b"b"]], "DYN.DEL": [b"after", 2, 0]})
    got = dyn(node, "del", "k", "--w", "2")
    assert (got.exit_code, got.stdout) == (0, "deleted: acks=2 hinted=0\n")
    assert node.calls == [[b"DYN.GET", b"k"], [b"DYN.DEL", b"k", b"CONTEXT", b"seen", b"W", b"2"]]


def test_del_with_a_context_does_not_read(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.DEL": [b"after", 2, 0]})
    got = dyn(node, "del", "k", "--context", "seen", "--json")
    assert node.calls == [[b"DYN.DEL", b"k", b"CONTEXT", b"seen"]]
    assert json.loads(got.stdout) == {"key": "k", "context": "after", "acks": 2, "hinted": 0}


def test_del_of_nothing_writes_nothing_and_fails(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.GET": [b"seen", []]})
    assert dyn(node, "del", "k").exit_code == 1
    got = dyn(node, "del", "k", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (1, {"key": "k", "context": "seen", "acks": 0, "hinted": 0})
    assert node.calls == [[b"DYN.GET", b"k"]] * 2


@pytest.mark.parametrize("reply", [[b"t"], b"x", [b"t", [1]], [[], []], 1])
def test_an_answer_out_of_shape_is_an_error_not_a_traceback(scripted: Scripted, dyn: Dyn, reply: Reply) -> None:
    node = scripted({"DYN.GET": reply, "DYN.SET": reply})
    for words in (("get", "k"), ("set", "k", "v")):
        got = dyn(node, *words)
        assert (got.exit_code, got.stdout) == (1, "")
        assert f"{node.address} answered" in got.stderr


def test_a_refused_write_is_shown_as_it_came(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.SET": "-BADCONTEXT the token is damaged"})
    got = dyn(node, "set", "k", "v", "--context", "x")
    assert (got.exit_code, got.stdout) == (1, "")
    assert got.stderr.splitlines() == [
        f"dyn: {node.address} answered: BADCONTEXT the token is damaged",
        "hint: read the key again for a fresh context: dyn get KEY --json",
    ]


def test_an_unreachable_or_silent_node_is_status_3(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(None, "--port", str(free_ports(1)), "get", "k")
    assert (got.exit_code, got.stdout) == (3, "")
    got = dyn(scripted({"DYN.SET": Silence}), "set", "k", "v", timeout_s=0.02)
    assert got.exit_code == 3
    assert "may or may not have been carried out" in got.stderr


def test_the_url_names_the_node_and_options_win_over_it(
    scripted: Scripted, dyn: Dyn, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, other = scripted({"DYN.GET": [b"t", [b"a"]]}), scripted({"DYN.GET": [b"t", [b"b"]]})
    monkeypatch.setenv("DYN_URL", f"redis://127.0.0.1:{node.port}")
    assert dyn(None, "get", "k").stdout == "a\n"
    assert dyn(None, "--port", str(other.port), "get", "k").stdout == "b\n"


def test_a_bad_url_is_wrong_usage(dyn: Dyn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_URL", "http://127.0.0.1")
    got = dyn(None, "get", "k")
    assert (got.exit_code, got.stdout) == (2, "")
    assert "DYN_URL" in got.stderr


@pytest.mark.parametrize(
    ("url", "options", "selected"),
    [("", ["--db", "3"], [b"3"]), ("/2", [], [b"2"]), ("/2", ["--db", "0"], []), ("", [], []), ("/0", [], [])],
)
def test_keys_are_those_of_the_database_that_is_named(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, url: str, options: list[str], selected: list[bytes]
) -> None:
    node = scripted({"SELECT": "OK", "DYN.GET": [b"token", [b"value"]]})
    monkeypatch.setenv("DYN_URL", f"redis://127.0.0.1:{node.port}{url}")
    got = CliRunner().invoke(app, ["get", "k", *options])
    assert (got.exit_code, got.stdout) == (0, "value\n")
    assert [call[1] for call in node.calls if call[0] == b"SELECT"] == selected


def test_the_exit_status_tells_a_missing_key_from_missing_replicas(dyn: Dyn, scripted: Scripted) -> None:
    missing = scripted({"DYN.GET": [None, []]})
    assert dyn(missing, "get", "k").exit_code == 1
    for code in ("NOQUORUM", "TIMEOUT"):
        short = scripted(dict.fromkeys(("DYN.GET", "DYN.SET"), f"-{code} write: got=1 wanted=2 hinted=0"))
        assert dyn(short, "get", "k").exit_code == dyn(short, "set", "k", "v").exit_code == 6
    assert dyn(scripted({"DYN.SET": "-DISKFULL no room"}), "set", "k", "v").exit_code == 1
