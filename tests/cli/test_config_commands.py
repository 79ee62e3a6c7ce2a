"""dyn config show | set | check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.scripted import Reply, ScriptedNode
from tests.cli.test_app import on_terminal, run

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]


def row(name: str, value: object, source: str = "default", live: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "default": value, "source": source, "live": live}


DOCUMENT = {
    "node": "n1",
    "file": "/etc/dyn.toml",
    "settings": [row("fsync", "always", "file", False), row("flushall", True, "command"), row("hint_after_ms", 1500)],
}


def test_show(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CONFIG SHOW": DOCUMENT})
    got = dyn(node, "config", "show")
    assert (got.exit_code, got.stderr) == (0, "the file of node n1 is /etc/dyn.toml\n")
    assert got.stdout.splitlines() == [
        "NAME           VALUE     SOURCE   LIVE",
        'fsync          "always"  file     no',
        "flushall       true      command  yes",
        "hint_after_ms  1500      default  yes",
    ]
    assert dyn(node, "config", "show", "*hint*", "nosuch").stdout.count("\n") == 2
    got = dyn(node, "config", "show", "fsync", "--json")
    assert json.loads(got.stdout) == {**DOCUMENT, "settings": DOCUMENT["settings"][:1]} and got.stderr == ""
    got = dyn(node, "config", "show", "nosuch")
    assert (got.exit_code, got.stdout) == (1, "") and "no setting has such a name" in got.stderr
    got = dyn(node, "config", "show", "nosuch", "--json")
    assert (got.exit_code, json.loads(got.stdout)["settings"]) == (1, [])
    assert "always" in on_terminal("--port", str(node.port), "config", "show")[1]


def test_show_of_another_release_is_no_traceback(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({}), "config", "show")
    assert got.exit_code == 1 and "unknown command 'DYN.CONFIG'" in got.stderr


def test_set_on_one_node(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER MYSELF": {"name": "n1"}, "CONFIG SET": "OK"})
    got = dyn(node, "config", "set", "siblings_max", "7")
    assert (got.exit_code, got.stdout, got.stderr) == (0, "n1: siblings_max = 7, until the node restarts\n", "")
    assert node.calls[-1] == [b"CONFIG", b"SET", b"siblings_max", b"7"]
    assert dyn(node, "config", "set", "slowlog_slower_than_us", "-1").exit_code == 0
    assert node.calls[-1] == [b"CONFIG", b"SET", b"slowlog_slower_than_us", b"-1"]


def test_r_and_w_are_staged(scripted: Scripted, dyn: Dyn) -> None:
    staged = {"staged": {"change": "read_quorum", "node": "", "quorum": 3}, "epoch": 5, "changes": 1}
    node = scripted({"DYN.CLUSTER": staged})
    for name in ("r", "R"):
        got = dyn(node, "config", "set", name, "3")
        assert (got.exit_code, got.stdout) == (0, "staged: R = 3 for the whole cluster; see dyn cluster plan\n")
        assert node.calls[-1] == [b"DYN.CLUSTER", b"QUORUM", b"R", b"3"]
    assert json.loads(dyn(node, "config", "set", "--all", "w", "3", "--json").stdout) == staged
    node.script["DYN.CLUSTER"] = "-ERR first stage"
    got = dyn(node, "config", "set", "w", "1")
    assert got.exit_code == 1 and "first stage" in got.stderr


def test_set_on_all_changes_nodes_that_join_or_leave(scripted: Scripted, dyn: Dyn) -> None:
    """The node that joins is the one that fetches: its rate is what an operator wants to change."""
    roles = ("member", "joining", "leaving")
    nodes = [scripted({"CONFIG SET": "OK"}) for _ in roles]
    rows = [{"name": role, "address": node.address, "role": role} for role, node in zip(roles, nodes, strict=True)]
    nodes[0].script["DYN.CLUSTER STATUS"] = {"nodes": rows}
    got = dyn(nodes[0], "config", "set", "--all", "background_keys_per_s", "7")
    assert got.exit_code == 0 and len(got.stdout.splitlines()) == 3
    for node in nodes:
        assert node.calls[-1] == [b"CONFIG", b"SET", b"background_keys_per_s", b"7"]


def test_set_on_all_tells_who_refuses_and_who_is_not_there(scripted: Scripted, dyn: Dyn) -> None:
    good, bad, gone = scripted({}), scripted({"CONFIG SET": "-ERR no"}), scripted({})
    gone.close()
    addresses = {"n1": good.address, "n2": bad.address, "n3": gone.address}
    nodes = [{"name": name, "address": address, "role": "member"} for name, address in addresses.items()]
    good.script |= {"DYN.CLUSTER STATUS": {"nodes": nodes}, "CONFIG SET": "OK"}
    got = dyn(good, "config", "set", "--all", "siblings_max", "7")
    assert (got.exit_code, got.stdout) == (1, "n1: siblings_max = 7, until the node restarts\n")
    lines = got.stderr.splitlines()
    assert (
        len(lines) == 2 and lines[0] == f"n2 ({bad.address}): ERR no" and lines[1].startswith(f"n3 ({gone.address}): ")
    )
    rows = json.loads(dyn(good, "config", "set", "--all", "siblings_max", "7", "--json").stdout)["nodes"]
    assert [(each["name"], each["error"] is None) for each in rows] == [("n1", True), ("n2", False), ("n3", False)]


def test_set_on_all_asks_each_member_at_its_port_for_such_connections(scripted: Scripted, dyn: Dyn) -> None:
    asked, other = scripted({}), scripted({"CONFIG SET": "OK"})
    nodes = [{"id": "b" * 40, "name": "n2", "address": "127.0.0.1:1", "role": "member"}]  # its port without TLS
    asked.script |= {
        "DYN.CLUSTER STATUS": {"nodes": nodes},
        "CLUSTER NODES": f"{'b' * 40} {other.address}@{other.port} master - 0 0 1 connected\n".encode(),
    }
    got = dyn(asked, "config", "set", "--all", "siblings_max", "7")
    assert (got.exit_code, got.stdout) == (0, "n2: siblings_max = 7, until the node restarts\n")
    assert other.calls[-1] == [b"CONFIG", b"SET", b"siblings_max", b"7"]


@pytest.mark.parametrize("name", ["requirepass", "REQUIREPASS"])
def test_a_password_on_the_command_line_is_refused(scripted: Scripted, dyn: Dyn, name: str) -> None:
    node = scripted({"DYN.CLUSTER MYSELF": {"name": "n1"}, "CONFIG SET": "OK"})
    got = dyn(node, "config", "set", name, "wxyz")
    assert (got.exit_code, got.stdout) == (2, "") and not node.calls
    assert "read a command line" in got.stderr and "redis-cli -x ACL SETUSER default" in got.stderr
    assert "wxyz" not in got.stderr


@pytest.mark.parametrize("name", ["notify_keyspace_events", "notify-keyspace-events"])
def test_a_setting_of_the_whole_cluster_is_set_once(scripted: Scripted, dyn: Dyn, name: str) -> None:
    node = scripted({"DYN.CLUSTER MYSELF": {"name": "n1"}, "CONFIG SET": "OK"})
    got = dyn(node, "config", "set", "--all", name, "KEA")
    assert (got.exit_code, got.stdout) == (0, f"n1: {name} = KEA, on all nodes, over restarts\n")
    assert [call[0] for call in node.calls] == [b"DYN.CLUSTER", b"CONFIG"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("siblings_max = 7\n\nfsync = 'no'\n", []),
        ("siblings_max = 7\nrelay_retry_ms = 250\nfsync = 'no'\n", []),
        (
            "siblings_maks = 7\n# x\nfsync = 'maybe'\nusers_max = 'many'\nzzzz = 1\n",
            [
                "1: unknown setting 'siblings_maks': did you mean 'siblings_max'?",
                "3: setting 'fsync' must be always, everysec or no, not 'maybe'",
                "4: setting 'users_max' must be a whole number, not 'many'",
                "5: unknown setting 'zzzz': dyn.toml(5) lists all settings",
            ],
        ),
        ("users_max = 1\nrecord_bytes_max = 5\n", ["2: setting 'record_bytes_max' is 5 and must be at least"]),
        ("users_max = 1\ntls_port = 7\n", ["2: setting 'tls_port' needs the node's certificate"]),
        ("users_max = 1\nusers_max = 2\n", ["2: "]),
        ("fsync: no\n", ["1: "]),
    ],
)
def test_check_names_each_mistake_with_its_line(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    got = run("config", "check", str(path))
    assert (got.returncode, got.stderr) == (1 if lines else 0, "")
    shown = got.stdout.splitlines()
    if not lines:
        assert shown == [f"{path}: 2 settings, no mistakes"]
        return
    assert len(shown) == len(lines)
    assert all(line.startswith(f"{path}:{start}") for line, start in zip(shown, lines, strict=True))
    assert got.stdout.count(str(path)) == len(lines)
    document = json.loads(run("config", "check", str(path), "--json").stdout)
    assert [str(each["line"]) for each in document["mistakes"]] == [line.partition(":")[0] for line in lines]


@pytest.mark.parametrize(("data", "words"), [(b"a = '\xff'", "is not UTF-8 text"), (None, "No such file")])
def test_check_of_what_cannot_be_read(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "s.toml"
    if data is not None:
        path.write_bytes(data)
    got = run("config", "check", str(path))
    assert (got.returncode, got.stderr) == (1, "") and words in got.stdout
    assert got.stdout.startswith(f"{path}: ") and got.stdout.count(str(path)) == 1


def test_n_is_staged_with_the_r_and_w_that_go_with_it(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted(
        {"DYN.CLUSTER": {"staged": {"change": "replica_count", "node": "", "copies": 5}, "epoch": 5, "changes": 3}}
    )
    got = dyn(node, "config", "set", "n", "5", "--r", "3", "--w", "3")
    assert (got.exit_code, got.stdout) == (0, "staged: N = 5 for the whole cluster; see dyn cluster plan\n")
    assert node.calls[-1] == [b"DYN.CLUSTER", b"QUORUM", b"N", b"5", b"R", b"3", b"W", b"3"]
    assert dyn(node, "config", "set", "N", "4").exit_code == 0
    assert node.calls[-1] == [b"DYN.CLUSTER", b"QUORUM", b"N", b"4"]
    for name in ("r", "siblings_max"):
        got = dyn(node, "config", "set", name, "2", "--w", "2")
        assert got.exit_code == 2 and "--r and --w go with dyn config set n alone" in got.stderr
