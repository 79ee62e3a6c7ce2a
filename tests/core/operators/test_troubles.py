"""What the status says of members that cannot be reached, and of copied directories."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.membership.addresses import ELSEWHERE, REFUSED, SILENT, STOPPED, UNPROVEN, UNREACHABLE, UNRESOLVED
from server.core.operators.status import judge
from server.core.operators.troubles import advice_on, copies_of
from tests.core.commands.talking import Client, make_node, member
from tests.core.commands.test_membership import ask
from tests.core.operators.test_status import up
from tests.core.ring.test_succession import first_layout


@pytest.mark.parametrize("reason", [STOPPED, UNREACHABLE, UNRESOLVED, SILENT, ELSEWHERE, REFUSED, ""])
def test_each_reason_has_its_advice(reason: str) -> None:
    advice = advice_on([reason, reason])
    assert advice and advice == advice_on([reason]), "once"
    assert ("dyn node start" in advice) == (reason in (STOPPED, "")), "who has not stopped is not started again"
    assert ("dyn cluster readdress" in advice) == (reason in (STOPPED, UNREACHABLE, UNRESOLVED, ELSEWHERE))


def test_the_summary_says_why_a_member_is_not_up() -> None:
    layout = first_layout()
    troubles = {"m1": (STOPPED, "connection refused"), "m2": (UNREACHABLE, "its address does not answer")}
    verdict, summary = judge(layout, up(layout, m1="down", m2="down"), troubles)
    assert verdict == "unavailable"
    assert summary.startswith(
        "n1 (127.0.0.1:7001) is down (connection refused), n2 (127.0.0.1:7002) is down (its address does not answer): "
    )
    assert summary.count("dyn cluster readdress") == 1


def test_nobody_is_told_to_remove_a_member_that_runs_and_refuses_this_process() -> None:
    layout = first_layout()
    troubles = {"m1": (REFUSED, "it refuses this node: COPY"), "m2": (STOPPED, "connection refused")}
    assert "dyn cluster remove n2" in judge(layout, up(layout, m1="down", m2="down"), troubles)[1]
    troubles["m2"] = (UNPROVEN, "it does not prove the secret")
    assert "gone for good" not in judge(layout, up(layout, m1="down", m2="down"), troubles)[1]


def test_the_status_has_the_reason_of_each_node_that_is_not_up() -> None:
    node = make_node(3)
    node.refused(member(2).id, 0, STOPPED, "connection refused")
    entries: list[dict[str, Any]] = ask(node, "STATUS")["nodes"]
    assert [entry.get("reason") for entry in entries] == [None, STOPPED, None]


def test_copies_are_an_operators_business_though_all_is_served() -> None:
    node = make_node(1)
    assert ask(node, "STATUS")["verdict"] == "healthy"
    node.services.duplicates.duplicate_reported("10.0.0.7:7001")
    document = ask(node, "STATUS")
    assert document["verdict"] == "degraded" and document["nodes"][0]["copies"] == ["10.0.0.7:7001"]
    assert f"a copy of the directory of n1 ({member(1).address}) was started at 10.0.0.7:7001" in document["summary"]
    node.services.duplicates._of_us = {member(1).address: node.state.now_ms}
    told = ask(node, "STATUS")["summary"]
    assert "was started on some machine with the same advertised address" in told, "its own address tells nobody where"
    node.services.duplicates.refusal_of_us = "COPY node n1 runs elsewhere"
    assert "the other nodes refuse this process: COPY node n1" in ask(node, "STATUS")["summary"]
    assert Client(node).ask("PING") == "PONG"


def test_what_will_be_refused_soon_makes_the_cluster_degraded_and_other_notices_do_not() -> None:
    node = make_node(1)
    process = node.services.process
    process.notices = ["other machines can reach it", "only 100 MiB are free on the disk"]
    document = ask(node, "STATUS")
    assert document["verdict"] == "healthy" and "n1: only 100 MiB are free" in document["summary"], (
        "as earlier versions do"
    )
    process.urgent = process.notices[1:]
    document = ask(node, "STATUS")
    assert document["verdict"] == "degraded" and document["summary"].count("n1: only 100 MiB are free on the disk") == 1
    assert document["summary"].count("n1: other machines can reach it") == 1


def test_a_node_that_does_not_answer_has_no_counts() -> None:
    nodes = ask(make_node(2), "STATUS")["nodes"]
    assert [(entry["keys"], entry["hints_held"]) for entry in nodes] == [(0, 0), (None, None)]


def test_copies_that_several_nodes_have_seen_are_named_once() -> None:
    told = {"m0": {"copies": {"m1": ["a:1", "b:2"]}}, "m2": {"copies": {"m1": ["a:1"]}}, "m3": {}}
    assert copies_of(told) == {"m1": ["a:1", "b:2"]}
