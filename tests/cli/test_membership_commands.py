"""dyn cluster join … abort against scripted nodes: what is staged, the plan, and its commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli import plain, plan_text
from tests.cli.documents import EMPTY_PLAN, JOINING, PLAN, QUORUM_PLAN, change, status
from tests.cli.scripted import Reply, ScriptedNode
from tests.ports import free_ports

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]

MYSELF = {"id": "id4", "name": "n4", "address": "127.0.0.1:7004", "zone": "b", "weight": 1, "epoch": 0, "cluster": "",
          "keys": 0}  # fmt: skip
STAGED = {"staged": JOINING, "epoch": 5, "changes": 1}


def sent(node: ScriptedNode) -> list[list[bytes]]:
    return [words[1:] for words in node.calls]


def settled(epoch: int = 5, **fields: Any) -> dict[str, Any]:
    return status("healthy", "up", "up") | {"epoch": epoch} | fields


def moving(moved: int, **fields: Any) -> dict[str, Any]:
    return settled(change=change(moved, **fields))


def one_after_the_other(*documents: Reply) -> Callable[[list[bytes]], Reply]:
    """Each answer once, the last one for ever."""
    rest = list(documents)
    return lambda words: rest.pop(0) if len(rest) > 1 else rest[0]


def test_join_hands_over_what_each_fresh_node_says_of_itself(scripted: Scripted, dyn: Dyn) -> None:
    fresh = [scripted({"DYN.CLUSTER MYSELF": MYSELF}), scripted({"DYN.CLUSTER MYSELF": MYSELF | {"name": "n5"}})]
    node = scripted({"DYN.CLUSTER JOIN": STAGED})
    got = dyn(node, "cluster", "join", *(each.address for each in fresh))
    assert got.exit_code == 0
    line = "staged: join n4 at 127.0.0.1:7004, zone b, weight 1; see dyn cluster plan"
    assert got.stdout.splitlines() == [line, line]
    assert [(words[0], json.loads(words[1])["name"]) for words in sent(node)] == [(b"JOIN", "n4"), (b"JOIN", "n5")]
    assert json.loads(sent(node)[0][1]) == MYSELF
    assert json.loads(dyn(node, "cluster", "join", fresh[0].address, "--json").stdout) == STAGED


def test_join_stages_nothing_unless_all_fresh_nodes_answer(scripted: Scripted, dyn: Dyn) -> None:
    fresh, node = scripted({"DYN.CLUSTER MYSELF": MYSELF}), scripted({"DYN.CLUSTER JOIN": STAGED})
    got = dyn(node, "cluster", "join", fresh.address, f"127.0.0.1:{free_ports(1)}")
    assert (got.exit_code, sent(node)) == (3, [])
    assert dyn(node, "cluster", "join", "nowhere").exit_code == 2
    assert dyn(node, "cluster", "join").exit_code == 2


def test_what_the_cluster_refuses_is_shown_as_it_came(scripted: Scripted, dyn: Dyn) -> None:
    fresh = scripted({"DYN.CLUSTER MYSELF": MYSELF})
    node = scripted(
        {"DYN.CLUSTER": "-ERR there is a node n4 already, at 127.0.0.1:7009: give the new one another name"}
    )
    got = dyn(node, "cluster", "join", fresh.address)
    assert (got.exit_code, got.stdout) == (1, "")
    assert "there is a node n4 already, at 127.0.0.1:7009" in got.stderr


@pytest.mark.parametrize(
    ("words", "command", "staged", "line"),
    [
        (("leave", "n3"), [b"LEAVE", b"n3"], {"change": "leave", "node": "n3"}, "leave n3"),
        (("remove", "n3"), [b"REMOVE", b"n3"], {"change": "remove", "node": "n3"}, "remove n3"),
        (("weight", "n3", "2"), [b"WEIGHT", b"n3", b"2"], {"change": "weight", "node": "n3", "weight": 2},
         "weight of n3: 2"),
        (("zone", "n3", "a"), [b"ZONE", b"n3", b"a"], {"change": "zone", "node": "n3", "zone": "a"}, "zone of n3: a"),
        (("replace", "n3", "n4"), [b"REPLACE", b"n3", b"n4"],
         {"change": "replace", "node": "n3", "by": "n4", "gone": False}, "replace n3 by n4"),
        (("replace", "n3", "n4"), [b"REPLACE", b"n3", b"n4"],
         {"change": "replace", "node": "n3", "by": "n4", "gone": True},
         "replace n3 by n4; it is down: the others give its data"),
    ],
)  # fmt: skip
def test_a_change_is_staged(
    scripted: Scripted, dyn: Dyn, words: tuple[str, ...], command: list[bytes], staged: dict[str, Any], line: str
) -> None:
    document = {"staged": staged, "epoch": 5, "changes": 1}
    node = scripted({"DYN.CLUSTER": document})
    got = dyn(node, "cluster", *words)
    assert (got.exit_code, got.stdout) == (0, f"staged: {line}; see dyn cluster plan\n")
    assert sent(node) == [command]
    assert json.loads(dyn(node, "cluster", *words, "--json").stdout) == document


def test_replace_asks_a_fresh_node_who_it_is(scripted: Scripted, dyn: Dyn) -> None:
    fresh = scripted({"DYN.CLUSTER MYSELF": MYSELF})
    staged = {"change": "replace", "node": "n3", "by": "n4", "address": "127.0.0.1:7004", "gone": False}
    node = scripted({"DYN.CLUSTER": {"staged": staged, "epoch": 5, "changes": 1}})
    got = dyn(node, "cluster", "replace", "n3", fresh.address)
    assert got.stdout == "staged: replace n3 by n4 at 127.0.0.1:7004; see dyn cluster plan\n"
    assert sent(node)[0][:2] == [b"REPLACE", b"n3"]
    assert json.loads(sent(node)[0][2]) == MYSELF


@pytest.mark.parametrize(
    "words", [("weight", "n1", "0"), ("weight", "n1", "x"), ("commit",), ("commit", "--epoch", "x")]
)
def test_wrong_usage_sends_nothing(scripted: Scripted, dyn: Dyn, words: tuple[str, ...]) -> None:
    node = scripted({})
    assert (dyn(node, "cluster", *words).exit_code, node.calls) == (2, [])


def test_a_seed_that_is_no_address_does_not_start_a_node(dyn: Dyn) -> None:
    got = dyn(None, "node", "start", "--dir", "d", "--join", "nowhere")
    assert got.exit_code == 2 and "'nowhere' is not HOST:PORT" in got.stderr


def test_the_plan_in_a_pipe(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER PLAN": PLAN})
    assert dyn(node, "cluster", "plan").stdout.splitlines() == [
        "plan for epoch 5:",
        "  join n4 at 127.0.0.1:7004, zone b, weight 1",
        "  weight of n1: 2",
        "",
        "FROM  TO  PARTITIONS  KEYS       SIZE",
        "n1    n4          32  3200  312.5 KiB",
        "n2    n4          64  6400  625.0 KiB",
        "all   -           96  9600  937.5 KiB",
        "",
        "balance     1.0000 now, 0.9945 then",
        "zones       kept apart",
        "time        about 4 min",
        "to commit   dyn cluster commit --epoch 5",
        "to drop it  dyn cluster abort",
    ]
    assert json.loads(dyn(node, "cluster", "plan", "--json").stdout) == PLAN


def test_the_plan_of_another_w() -> None:
    lines = plan_text.plan_text(QUORUM_PLAN).splitlines()
    assert lines[:5] == ["plan for epoch 5:", "  W = 3 for the whole cluster", "", "R           2 now, 2 then",
                         "W           2 now, 3 then"]  # fmt: skip
    assert "quorums     older writes may have W=2 copies" in lines


def test_the_plan_of_another_n() -> None:
    drops = [
        {"node": "n1", "partitions": 12, "keys": 5, "bytes": 2048},
        {"node": "n2", "partitions": 9, "keys": 4, "bytes": 9},
    ]
    changes = [{"change": "replica_count", "node": "", "copies": 2}]
    plan = QUORUM_PLAN | {"changes": changes, "n": [3, 2], "drops": drops, "eta_s": 0}
    assert plan_text.plan_text(plan).splitlines()[:7] == [
        "plan for epoch 5:", "  N = 2 for the whole cluster", "", "N           3 now, 2 then", "R           2 now, 2 then",
        "W           2 now, 3 then", "deletes     n1: 12 partitions, 2.0 KiB, at the end",
    ]  # fmt: skip
    assert ("time", "as long as the owners need to compare their data") in plan_text.plan_facts(plan)


def test_an_empty_plan_says_how_to_fill_it(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER PLAN": EMPTY_PLAN})
    got = dyn(node, "cluster", "plan")
    assert got.exit_code == 0 and got.stdout.startswith("nothing is staged: dyn cluster join")
    assert json.loads(dyn(node, "cluster", "plan", "--json").stdout) == EMPTY_PLAN


def test_a_plan_says_what_an_operator_should_mind() -> None:
    facts = dict(plan_text.plan_facts(PLAN | {"zone_violations": 3, "eta_s": 0, "now": "epoch 4 is not over"}))
    assert facts["now"] == "epoch 4 is not over"
    assert facts["zones"] == "3 partitions will not be spread over the zones as they could be"
    assert facts["time"] == "at once: no data moves"


@pytest.mark.parametrize(
    "document", [{}, PLAN | {"moves": [{"from": "n1"}]}, PLAN | {"changes": ["join"]}, PLAN | {"eta_s": None}]
)
def test_a_plan_out_of_shape_is_an_error(scripted: Scripted, dyn: Dyn, document: dict[str, Any]) -> None:
    got = dyn(scripted({"DYN.CLUSTER PLAN": document}), "cluster", "plan")
    assert (got.exit_code, got.stdout) == (1, "") and "is it a dyn node?" in got.stderr


def test_a_commit_returns_at_once(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER COMMIT": {"epoch": 5, "changes": 2}})
    got = dyn(node, "cluster", "commit", "--epoch", "5")
    assert (got.exit_code, got.stdout) == (0, "committed epoch 5: 2 changes; dyn cluster status shows how far it is\n")
    assert sent(node) == [[b"COMMIT", b"5"]]
    assert json.loads(dyn(node, "cluster", "commit", "--epoch", "5", "--json").stdout) == {"epoch": 5, "changes": 2}


def test_a_stale_plan_is_refused(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER COMMIT": "-STALEPLAN epoch 5 is already committed: run `dyn cluster plan`"})
    got = dyn(node, "cluster", "commit", "--epoch", "5")
    assert (got.exit_code, got.stdout) == (1, "")
    assert "STALEPLAN epoch 5 is already committed" in got.stderr and "hint: dyn cluster plan" in got.stderr


def test_a_commit_that_waits_follows_the_data(scripted: Scripted, dyn: Dyn) -> None:
    leaving = settled()
    leaving["nodes"][1]["role"] = "leaving"
    statuses = (moving(0), moving(24), moving(96, phase="handover"), leaving, settled())
    node = scripted({"DYN.CLUSTER COMMIT": {"epoch": 5, "changes": 1},
                     "DYN.CLUSTER STATUS": one_after_the_other(*statuses)})  # fmt: skip
    got = dyn(node, "cluster", "commit", "--epoch", "5", "--wait")
    lines = got.stdout.splitlines()
    assert got.exit_code == 0
    assert lines[0] == "committed epoch 5: 1 change"
    assert lines[1] == "epoch 5: 0 of 9600 keys, 0 of 96 partitions, about 40 s left"
    assert lines[-1] == "epoch 5: everything is where it belongs"
    assert [words[0] for words in sent(node)].count(b"STATUS") == len(statuses)


def test_a_commit_that_waits_prints_one_document(scripted: Scripted, dyn: Dyn) -> None:
    gone = settled()
    gone["nodes"][1] |= {"role": "leaving", "state": "down"}
    node = scripted({"DYN.CLUSTER COMMIT": {"epoch": 5, "changes": 1},
                     "DYN.CLUSTER STATUS": one_after_the_other(moving(3), gone)})  # fmt: skip
    got = dyn(node, "cluster", "commit", "--epoch", "5", "--wait", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, {"epoch": 5, "changes": 1})


@pytest.mark.parametrize(("count", "line"), [(0, "0 changes are"), (1, "1 change is"), (2, "2 changes are")])
def test_abort(scripted: Scripted, dyn: Dyn, count: int, line: str) -> None:
    node = scripted({"DYN.CLUSTER ABORT": {"aborted": count}})
    assert dyn(node, "cluster", "abort").stdout == f"{line} no longer staged\n"
    assert json.loads(dyn(node, "cluster", "abort", "--json").stdout) == {"aborted": count}


def test_the_status_shows_roles_and_progress(scripted: Scripted, dyn: Dyn) -> None:
    document = moving(12)
    document["nodes"][1]["role"] = "joining"
    lines = dyn(scripted({"DYN.CLUSTER STATUS": document}), "cluster", "status").stdout.splitlines()
    assert lines[2] == "moving: 1200 of 9600 keys, 12 of 96 partitions, about 40 s left"
    assert lines[-1].split()[:5] == ["n2", "127.0.0.1:7002", "-", "up", "joining"]
    got = dyn(scripted({"DYN.CLUSTER STATUS": settled(change={"phase": "transfer"})}), "cluster", "status")
    assert got.exit_code == 1 and "is it a dyn node?" in got.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (119, "119 s"), (120, "2 min"), (7140, "119 min"), (7200, "2 h"), (7500, "2 h 5 min")],
)
def test_durations(seconds: int, text: str) -> None:
    assert plain.duration(seconds) == text


def test_readdress_shows_who_is_where_and_fails_if_somewhere_nobody_is(scripted: Scripted, dyn: Dyn) -> None:
    found = {"asked": "a:1", "node": "n2", "address": "10.0.0.2:7001", "error": ""}
    node = scripted({"DYN.CLUSTER READDRESS": {"nodes": [found]}})
    got = dyn(node, "cluster", "readdress", "a:1")
    assert (got.exit_code, got.stdout) == (0, "n2 is at 10.0.0.2:7001\n")
    lost = {"asked": "b:2", "node": "", "address": "", "error": "Connection refused"}
    node = scripted({"DYN.CLUSTER READDRESS": {"nodes": [found, lost]}})
    got = dyn(node, "cluster", "readdress", "a:1", "n3=b:2")
    assert (got.exit_code, got.stdout.splitlines()) == (1, ["n2 is at 10.0.0.2:7001", "b:2: Connection refused"])
    assert sent(node) == [[b"READDRESS", b"a:1", b"n3=b:2"]]
    got = dyn(node, "cluster", "readdress", "a:1", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (1, {"nodes": [found, lost]})
    assert dyn(node, "cluster", "readdress").exit_code == 2


def test_a_plan_names_the_digest_and_a_commit_passes_it_on(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER PLAN": PLAN | {"digest": "c0ffee"}, "DYN.CLUSTER COMMIT": {"epoch": 5, "changes": 2}})
    last = dyn(node, "cluster", "plan").stdout.splitlines()[-2]
    assert last == "to commit   dyn cluster commit --epoch 5 --plan c0ffee"
    assert dyn(node, *last.split()[3:]).exit_code == 0
    assert node.calls[-1] == [b"DYN.CLUSTER", b"COMMIT", b"5", b"PLAN", b"c0ffee"]
