"""What the status says of the data, and what to type: hints without room, overdue comparisons, damage; down nodes."""

from __future__ import annotations

from server.core.operators.remarks import damage, missed, out_of_room, overdue
from server.core.operators.status import down_since, heard_ms, judge
from server.core.operators.troubles import utc
from server.core.repair.anti_entropy import OVERDUE_INTERVALS, OVERDUE_MS_MIN
from tests.core.commands.talking import make_node, member
from tests.core.commands.test_membership import ask
from tests.core.operators.test_status import up
from tests.core.ring.test_succession import first_layout


def test_each_remark_says_what_to_type() -> None:
    layout = first_layout()
    assert missed([]) == out_of_room(layout, {"m1": {"hints_full": False}}) == overdue(layout, {"m1": {}}) == []
    [said] = missed(["n1", "n2"])
    assert said.startswith("n1, n2 missed writes") and "`dyn repair` at once when all nodes are up" in said
    assert "served" not in said, "whether keys are served is for the verdict, which may be unavailable"
    [said] = out_of_room(layout, {"m1": {"hints_full": True}, "m2": {}})
    assert said.startswith("n1: no room for more hints") and "dyn cluster remove" in said
    [said] = overdue(layout, {"m1": {"overdue_s": {"m2": 7500}}, "m2": {}})
    assert said.startswith("n1 and n2 have not been compared for 2 h: `dyn repair`")
    [said] = damage(layout, {"m1": {"damaged": 3}})
    assert said.startswith("n1 has 3 damaged records") and "`dyn repair`" in said


def test_a_node_that_is_down_has_advice_for_both_cases() -> None:
    layout = first_layout()
    summary = judge(layout, up(layout, m1="down"))[1]
    assert ". If it comes back, nothing more is needed. If it is gone for good: `" in summary
    assert "`dyn cluster replace n1 HOST:PORT`" in summary and "`dyn cluster remove n1`" in summary
    summary = judge(layout, up(layout, m1="down", m2="down"))[1]
    assert "`dyn cluster replace NAME HOST:PORT`" in summary
    assert "gone for good" not in judge(layout, up(layout, m1="suspect"))[1], "it cannot be removed yet"


def test_since_when_a_node_is_down_is_what_any_node_has_heard() -> None:
    states = {"a": "up", "b": "down", "c": "down", "d": "suspect"}
    reports = {"a": {"heard_ms": {"b": 5000}}, "e": {"heard_ms": {"b": 7000, "d": 1}}, "f": {}}
    assert down_since(reports, states) == {"b": 7000, "c": None}
    layout = first_layout()
    since_ms = 1_764_494_211_000
    assert utc(since_ms) == "2025-11-30T09:16:51Z"
    summary = judge(layout, up(layout, m1="down"), {}, {"m1": since_ms})[1]
    assert summary.startswith("n1 (127.0.0.1:7001) is down since 2025-11-30T09:16:51Z: every key")


def test_a_node_knows_when_it_has_last_heard_of_those_that_are_down() -> None:
    """And only those: a process that has never heard of a member knows nothing, whatever gossip tells of it."""
    node = make_node(3)
    state = node.state
    state.last_message_ms[member(2).id] = state.now_ms - 3000
    assert heard_ms(node.services) == {member(2).id: state.wall_ms - 3000}
    [_, second, third] = ask(node, "STATUS")["nodes"]
    assert (second["state"], second["keys"], second["down_since_ms"]) == ("down", None, state.wall_ms - 3000)
    assert (third["state"], third["keys"], third["down_since_ms"]) == ("down", None, None)
    state.liveness.message_received(member(2).id, state.now_ms)
    assert heard_ms(node.services) == {}


def test_peers_that_are_up_and_were_not_compared_are_overdue() -> None:
    node = make_node(3)
    entropy, state = node.services.anti_entropy, node.state
    state.is_filling = False
    led = [peer.id for peer in (member(2), member(3)) if entropy._is_leader_of(peer.id)]
    assert led, "it leads one of its two pairs"
    limit_ms = max(OVERDUE_MS_MIN, OVERDUE_INTERVALS * state.config.repair_interval_ms)
    for peer in led:
        entropy._up[peer], entropy._usable_ms[peer] = True, state.now_ms
    state.at(state.now_ms + limit_ms)
    assert entropy.overdue_s() == {}
    state.at(state.now_ms + 1000)
    assert entropy.overdue_s() == dict.fromkeys(led, limit_ms // 1000 + 1)
    entropy.compared_ms[led[0]] = state.now_ms
    assert led[0] not in entropy.overdue_s()
    entropy.compared_ms.clear()
    entropy._up[led[0]] = False
    assert led[0] not in entropy.overdue_s(), "it is down, which the status says anyway"


def test_hints_without_room_show_in_the_status() -> None:
    node = make_node(1)
    assert ask(node, "STATUS")["verdict"] == "healthy"
    node.services.state.hints.bytes_max = 0
    document = ask(node, "STATUS")
    assert document["verdict"] == "degraded" and "n1: no room for more hints" in document["summary"]
