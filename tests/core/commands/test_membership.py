"""DYN.CLUSTER JOIN … COMMIT: each answers one JSON document, stages what can be made, and refuses what cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from protocol.handshake import fingerprint
from server.core.liveness.liveness import PeerState
from server.core.messages.announcements import staged_in
from server.core.node import Node
from server.core.records.versions import supersede
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach


def myself(number: int, **fields: Any) -> str:
    """What the fresh node n<number> answers to MYSELF."""
    told = {"zone": "b", "weight": 1, "epoch": 0, "cluster": "", "keys": 0, "mood": "new"}
    told |= {"capabilities": ["orderly", "entries", "databases"]}
    told |= {name: getattr(member(number), name) for name in ("id", "name", "address")}
    return json.dumps(told | fields, separators=(",", ":"))


def ask(node: Node, line: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Client(node).ask(f"DYN.CLUSTER {line}"))
    return document


def error(node: Node, line: str) -> str:
    return Client(node).error(f"DYN.CLUSTER {line}")


def epoch_of(node: Node) -> int:
    assert node.state.layout is not None
    return node.state.layout.epoch


def test_a_join_is_staged_planned_and_committed() -> None:
    node = make_node(1)
    Client(node).raw(*(f"SET key{number} value" for number in range(100)))
    staged = {"change": "join", "node": "n4", "address": "10.0.0.4:7004", "zone": "b", "weight": 1}
    assert ask(node, f"JOIN {myself(4)}") == {"staged": staged, "epoch": 8, "changes": 1}
    plan = ask(node, "PLAN")
    assert (plan["epoch"], plan["changes"]) == (8, [staged])
    assert [(move["from"], move["to"], move["partitions"], move["keys"]) for move in plan["moves"]] == [
        ("n1", "n4", 16, 100)
    ]
    assert plan["moves"][0]["bytes"] > 100 * len("valuekey99")
    assert ask(node, "STATUS")["summary"].endswith("1 change is staged: see `dyn cluster plan`")
    assert ask(node, "COMMIT 8") == {"epoch": 8, "changes": 1}
    assert epoch_of(node) == 8
    assert ask(node, "PLAN")["changes"] == []


@pytest.mark.parametrize("told", [{}, {"capabilities": ["orderly"]}])
def test_a_node_that_does_not_read_types_is_refused_once_all_members_do(told: dict[str, Any]) -> None:
    old = json.dumps({**json.loads(myself(4)), "capabilities": None} | told, separators=(",", ":"))
    old = old.replace(',"capabilities":null', "")
    node = make_node(3)
    node.state.note_capabilities(member(2).id, (b"entries", b"databases"))
    assert ask(node, f"JOIN {old}")["changes"] == 1, "n3 has not announced it either: no types are written"
    node.state.note_capabilities(member(3).id, (b"entries", b"databases"))
    expected = "ERR node n4 (10.0.0.4:7004) runs a version that does not read Redis' types"
    assert error(node, "COMMIT 8").startswith(expected), "the members have been upgraded since"
    assert epoch_of(node) == 7
    ask(node, "ABORT")
    assert error(node, f"JOIN {old}").startswith(expected) and "with the members' version" in error(node, f"JOIN {old}")
    assert error(node, f"REPLACE n3 {old}").startswith(expected)
    assert ask(node, "ABORT")["aborted"] == 0
    assert ask(node, f"JOIN {myself(4)}")["changes"] == 1, "it was started with this version"
    assert ask(node, "COMMIT 8")["epoch"] == 8


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("yes", "no", "by TLS only: start it with tls_peers = yes and a certificate"),
        ("no", "yes", "without TLS: start it with tls_peers = no, then"),
        ("yes", "optional", ""),
        ("optional", "no", ""),
        ("optional", "yes", ""),
        ("yes", "yes", ""),
        ("yes", None, ""),
    ],
)
def test_a_node_that_the_members_cannot_connect_to_is_not_staged(ours: str, theirs: str | None, words: str) -> None:
    """Whether their TLS and that of the newcomer go together; one of a version that does not tell it may be staged."""
    node = make_node(3)
    node.state.config = replace(node.state.config, tls_peers=ours)
    newcomer = myself(4, **({} if theirs is None else {"tls_peers": theirs}))
    if words:
        for line in ("JOIN", "REPLACE n3"):
            assert f"has tls_peers = {theirs}" in error(node, f"{line} {newcomer}")
            assert words in error(node, f"{line} {newcomer}")
        assert ask(node, "ABORT")["aborted"] == 0
    else:
        assert ask(node, f"JOIN {newcomer}")["changes"] == 1


def test_a_node_tells_whether_it_connects_by_tls() -> None:
    node = make_node(1)
    assert ask(node, "MYSELF")["tls_peers"] == "no"
    node.state.config = replace(node.state.config, tls_peers="optional")
    assert ask(node, "MYSELF")["tls_peers"] == "optional"


def test_a_node_without_the_secret_of_the_members_is_not_staged() -> None:
    secret, other = b"s" * 32, b"o" * 32
    node = make_node(3)
    node.services.authentication.set_secrets((secret,))
    stranger = myself(4, secrets=[fingerprint(other)])
    assert ask(node, f"JOIN {myself(4)}")["changes"] == 1, "the members do not require their secret yet"
    ask(node, "ABORT")
    node.services.authentication.is_closed = True
    for line in ("JOIN", "REPLACE n3"):
        assert error(node, f"{line} {myself(4)}").startswith("ERR node n4 (10.0.0.4:7004) has no secret")
        assert error(node, f"{line} {stranger}").startswith("ERR node n4 (10.0.0.4:7004) has another secret")
    assert "what a node answers" in error(node, f"JOIN {myself(4, secrets=7)}")
    assert ask(node, "ABORT")["aborted"] == 0
    node.services.authentication.set_secrets((other, secret))
    assert ask(node, f"JOIN {stranger}")["changes"] == 1, "of two valid secrets one is enough"


def test_a_commit_makes_only_what_its_operator_has_seen() -> None:
    node = make_node(1)
    ask(node, "WEIGHT n1 2")
    seen = ask(node, "PLAN")["digest"]
    ask(node, "ZONE n1 b")
    assert error(node, f"COMMIT 8 PLAN {seen}").startswith("STALEPLAN what is staged is not what that plan showed")
    assert error(node, "COMMIT 8").startswith("STALEPLAN what is staged has changed since the last plan was shown")
    assert error(node, "COMMIT 8 PLAN") == error(node, f"COMMIT 8 SEEN {seen}") == "ERR syntax error"
    assert epoch_of(node) == 7
    now = ask(node, "PLAN")["digest"]
    assert now != seen
    assert error(node, f"COMMIT 8 PLAN {seen}").startswith("STALEPLAN"), (
        "another operator's plan does not make it right"
    )
    assert ask(node, f"COMMIT 8 plan {now}") == {"epoch": 8, "changes": 2}


def test_a_change_that_was_taken_back_makes_a_plan_stale() -> None:
    node = make_node(1)
    ask(node, "WEIGHT n1 2")
    seen = ask(node, "PLAN")["digest"]
    ask(node, "ABORT")
    ask(node, "WEIGHT n1 2")
    assert error(node, f"COMMIT 8 PLAN {seen}").startswith("STALEPLAN"), "it is the same change, but staged anew"
    assert ask(node, "COMMIT 8")["changes"] == 1, "no plan was asked since the abort"


def test_without_any_plan_the_epoch_is_enough() -> None:
    node = make_node(1)
    assert "digest" not in ask(node, "PLAN"), "nothing was staged to be seen"
    ask(node, "WEIGHT n1 2")
    ask(node, "ZONE n1 b")
    assert ask(node, "COMMIT 8")["changes"] == 2
    ask(node, "WEIGHT n1 3")
    assert ask(node, "COMMIT 9")["changes"] == 1, "a plan of an earlier epoch is void"


def test_a_plan_for_another_epoch_is_refused() -> None:
    node = make_node(1)
    assert error(node, "COMMIT 8").startswith("ERR nothing is staged")
    ask(node, "WEIGHT n1 2")
    assert error(node, "COMMIT 7") == "STALEPLAN epoch 7 is already committed: run `dyn cluster plan`"
    assert error(node, "COMMIT 9") == (
        "STALEPLAN the plan is for epoch 9, but the layout is at epoch 7: run `dyn cluster plan`"
    )
    assert error(node, "COMMIT soon") == "ERR value is not an integer or out of range"
    ask(node, "COMMIT 8")
    assert "epoch 8 is already committed" in error(node, "COMMIT 8")


def test_an_abort_takes_everything_back() -> None:
    node = make_node(1)
    ask(node, f"JOIN {myself(4)}")
    ask(node, "WEIGHT n4 3")
    assert ask(node, "STATUS")["staged"] == 2
    assert ask(node, "ABORT") == {"aborted": 2}
    assert ask(node, "PLAN")["changes"] == []
    assert ask(node, "ABORT") == {"aborted": 0}


@pytest.mark.parametrize(
    ("newcomer", "why"),
    [
        (
            myself(4, epoch=3, cluster="d"),
            "ERR node n4 (10.0.0.4:7004) is in cluster d (epoch 3), and this is cluster c",
        ),
        (myself(4, epoch=3, cluster="c"), "was a member of this cluster until after epoch 3"),
        (myself(4, keys=17), "holds 17 records of an earlier life: empty it, or start the node once with --rebuild"),
        (myself(4, name="n1"), "ERR there is a node n1 already, at 10.0.0.1:7001: give the new one another name"),
        (myself(4, address="10.0.0.1:7001"), "ERR node n1 has the address 10.0.0.1:7001 already"),
        (myself(1, epoch=7, cluster="c"), "ERR node n1 is a member already"),
        (myself(4, address="nowhere"), "is not host:port"),
        (myself(4, weight=0), "is not positive"),
        (myself(4, weight="1"), "its weight is '1'"),
        (myself(4, keys=True), "its keys is True"),
        ("{}", "ERR this is not what a node answers to DYN.CLUSTER MYSELF"),
        ("{", "ERR this is not what a node answers to DYN.CLUSTER MYSELF"),
        ("127.0.0.1:7004", "use `dyn cluster join 127.0.0.1:7004`"),
    ],
)
def test_who_may_not_join(newcomer: str, why: str) -> None:
    node = make_node(1)
    assert why in error(node, f"JOIN {newcomer}")
    assert why in error(node, f"REPLACE n1 {newcomer}") or newcomer == "127.0.0.1:7004"
    assert ask(node, "PLAN")["changes"] == []


def test_a_join_is_staged_once() -> None:
    node = make_node(1)
    ask(node, f"JOIN {myself(4)}")
    assert error(node, f"JOIN {myself(4)}") == "ERR node n4 is staged to join already: see `dyn cluster plan`"
    assert "there is a node n4 already" in error(node, f"JOIN {myself(5, name='n4')}")


def test_what_a_node_tells_of_itself_is_what_join_takes() -> None:
    fresh = Client(make_node(0)).ask("DYN.CLUSTER MYSELF")
    assert (json.loads(fresh)["keys"], json.loads(fresh)["epoch"]) == (0, 0)
    node = make_node(1)
    Client(node).raw("SET a 1")
    assert ask(node, "MYSELF")["keys"] == 1
    assert "is a member already" in error(node, f"JOIN {fresh}")


def test_only_a_node_that_is_not_up_is_removed() -> None:
    node = make_node(3)
    reach(node, 2)
    assert (
        error(node, "REMOVE n2")
        == "ERR node n2 is up, and not known to be down: use `dyn cluster leave n2`, which moves its data first"
    )
    assert error(node, "REMOVE n9") == "ERR there is no node n9: the members are n1, n2, n3"
    node.disconnected(member(2).id, 0)
    assert ask(node, "REMOVE n3")["staged"] == {"change": "remove", "node": "n3"}
    assert [move["from"] for move in ask(node, "PLAN")["moves"]].count("n3") == 0


def test_a_replacement_of_a_node_that_is_down_expects_nothing_of_it() -> None:
    node = make_node(3)
    assert ask(node, f"REPLACE n3 {myself(4)}")["staged"]["gone"] is True
    assert "n3" not in {move["from"] for move in ask(node, "PLAN")["moves"]}
    ask(node, "ABORT")
    reach(node, 3)
    node.disconnected(member(3).id, 0)
    node.greeted(member(3).id, 1)
    assert node.state.liveness.state(member(3).id) is PeerState.UP
    assert ask(node, f"REPLACE n3 {myself(4)}")["staged"] == {
        "change": "replace", "node": "n3", "by": "n4", "address": "10.0.0.4:7004", "gone": False,
    }  # fmt: skip
    assert {(move["from"], move["to"]) for move in ask(node, "PLAN")["moves"]} == {("n3", "n4")}


@pytest.mark.parametrize("new", ["n4", myself(4)])
def test_a_replacement_by_a_node_that_is_staged_to_join(new: str) -> None:
    node = make_node(1)
    ask(node, f"JOIN {myself(4)}")
    assert ask(node, f"REPLACE n1 {new}")["staged"] == {"change": "replace", "node": "n1", "by": "n4", "gone": False}
    assert [(move["from"], move["to"]) for move in ask(node, "PLAN")["moves"]] == [("n1", "n4")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("LEAVE n9", "ERR there is no node n9: the members are n1"),
        ("LEAVE n4", "ERR node n4 is no member yet: `dyn cluster abort` takes its join back"),
        ("WEIGHT n1 0", "ERR the weight 0 of node n1 is not positive"),
        ("WEIGHT n1 much", "ERR value is not an integer or out of range"),
        ("ZONE n9 a", "ERR there is no node n9: the members are n1"),
        ("REPLACE n9 n1", "ERR there is no node n9: the members are n1"),
        ("REPLACE n1 n9", "ERR no node n9 is staged to join: name the address of the fresh node, HOST:PORT"),
        ("REPLACE n1 n1", "ERR node n1 has a place already: a replacement is a node that has none"),
        ("REMOVE n4", "ERR node n4 is no member yet: `dyn cluster abort` takes its join back"),
        ("REPLACE n4 n1", "ERR node n4 is no member yet: `dyn cluster abort` takes its join back"),
        ("LEAVE", "ERR wrong number of arguments for 'dyn.cluster|leave' command"),
    ],
)
def test_what_cannot_be_staged(line: str, why: str) -> None:
    node = make_node(1)
    ask(node, f"JOIN {myself(4)}")
    assert error(node, line) == why
    assert ask(node, "STATUS")["staged"] == 1


def test_the_last_node_cannot_leave() -> None:
    assert error(make_node(1), "LEAVE n1") == "ERR no node would be left: a cluster needs at least one"


def test_what_is_in_force_already_is_not_staged() -> None:
    node = make_node(1)
    ask(node, "WEIGHT n1 3")
    ask(node, "ZONE n1 a")
    ask(node, "COMMIT 8")
    layout = node.state.layout
    assert layout is not None
    for line, said in (
        ("WEIGHT n1 3", "the weight of node n1 is 3"),
        ("ZONE n1 a", "node n1 is in zone 'a'"),
        (f"QUORUM R {layout.r}", f"R is {layout.r}"),
        (f"QUORUM W {layout.w}", f"W is {layout.w}"),
    ):
        assert error(node, line) == f"ERR {said} already: nothing was staged"
    assert ask(node, "STATUS")["staged"] == 0
    ask(node, "WEIGHT n1 4")
    assert ask(node, "WEIGHT n1 3")["changes"] == 1, "it takes back the other one"
    assert ask(node, "PLAN")["changes"] == [{"change": "weight", "node": "n1", "weight": 3}]


def test_weights_and_zones() -> None:
    node = make_node(1)
    assert ask(node, "WEIGHT n1 3")["staged"] == {"change": "weight", "node": "n1", "weight": 3}
    assert ask(node, "ZONE n1 a") == {"staged": {"change": "zone", "node": "n1", "zone": "a"}, "epoch": 8, "changes": 2}
    ask(node, "COMMIT 8")
    layout = node.state.layout
    assert layout is not None and (layout.members[0].weight, layout.members[0].zone) == (3, "a")


def test_changes_that_were_staged_apart_may_not_go_together() -> None:
    node, other = make_node(1), make_node(1)
    other.state.rng.seed(2)
    ask(node, f"JOIN {myself(4)}")
    ask(other, f"JOIN {myself(5, name='n4')}")
    told = other.services.staging.document()
    assert told is not None
    node.services.staging.merge(staged_in(told))
    for line in ("PLAN", "COMMIT 8"):
        assert "ERR the staged changes do not go together: there is a node n4 already" in error(node, line)
    assert epoch_of(node) == 7


def test_the_other_nodes_are_told_before_the_answer() -> None:
    node = make_node(2)
    reach(node, 2)
    client = Client(node)
    client.node.command(client.session, b"DYN.CLUSTER WEIGHT n2 2".split(), 0)
    outbox = finish_turn(node)
    assert not outbox.replies
    assert b"STAGED" in outbox.messages[member(2).id]
    node.disconnected(member(2).id, 0)
    assert b'"weight":2' in finish_turn(node).replies[0][1]


@pytest.mark.parametrize("line", ["PLAN", "ABORT", "COMMIT 1", "LEAVE n1", f"JOIN {myself(4)}"])
def test_a_node_without_a_layout_says_so(line: str) -> None:
    assert "not part of a cluster yet" in error(make_node(0), line)


def test_the_node_that_is_to_be_removed_does_not_commit() -> None:
    node = make_node(3)
    layout = node.state.layout
    assert layout is not None
    node.services.staging.stage(layout, "remove", member(1).id)
    assert error(node, "COMMIT 8") == "ERR node n1 is itself to be removed: commit at another node"
    assert epoch_of(node) == 7


def test_help_lists_them_all() -> None:
    lines = Client(make_node(0)).ask("DYN.CLUSTER HELP")
    for word in ("STATUS", "JOIN json", "REPLACE node newcomer", "COMMIT epoch [PLAN digest]", "ABORT"):
        assert word in lines


def test_a_first_layout_wants_a_node_without_records() -> None:
    """Who was removed while it was down may hold the last copies there are."""
    node = make_node(0)
    node.state.records.put(b"\0\0\0\0\0\0key", supersede(None, b"actor 01", 1, b"value"), None)
    assert "holds 1 records of an earlier life" in error(node, "INIT {}")


def test_a_zone_that_other_nodes_would_not_take_is_not_staged() -> None:
    """They would close the link that it comes by, each time that it is sent."""
    node = make_node(1)
    assert error(node, f"ZONE n1 {'z' * 513}") == "ERR a change's field 'zone' is 513 characters long"
    assert node.services.staging.document() is None
    assert ask(node, f"ZONE n1 {'z' * 512}")["changes"] == 1
    assert staged_in(node.services.staging.document() or b"").changes[0].zone == "z" * 512
