"""Where this node is and where the others are: what it says, takes up, corrects, and leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.core.membership.addresses import ELSEWHERE, REFUSED, SILENT, STOPPED, looked_for
from server.core.records.records import META
from server.core.ring.addresses import is_unknown, is_wildcard, shown_address, unknown_address
from server.core.ring.change import ADDRESS
from server.core.ring.layout import Layout
from server.core.ring.succession import commit, move, readdress
from tests.core.membership.test_membership import NAMES, WALL_MS, Machine, change, layout_of, member

HERE, THERE = "127.0.0.1:7001", "10.0.0.9:7001"


def addresses(layout: Layout | None) -> dict[str, str]:
    assert layout is not None
    return {member.name: shown_address(member.address) for member in layout.members}


def told(name: str, address: str, **fields: Any) -> dict[str, Any]:
    """What a node answers to DYN.CLUSTER MYSELF."""
    fresh = {"id": name, "name": name, "address": address, "cluster": "c", "epoch": 1, "moved_ms": WALL_MS + 5}
    return fresh | fields


# --- of this node


@pytest.mark.parametrize(("address", "moves"), [("10.1.1.1:7001", True), ("0.0.0.0:7001", False), ("", False)])
def test_a_node_that_starts_at_another_address_says_so(address: str, moves: bool) -> None:
    machine = Machine(layout=layout_of())
    machine.start(address)
    machine.turn()
    layout = machine.layout
    assert layout is not None
    assert layout.version == (1, 1 if moves else 0)
    assert (layout.members[0].address == address) == moves
    assert [change.kind for change in layout.log] == ([ADDRESS] if moves else [])
    assert machine.engine.get(META + b"layout") == layout.encode()


def test_a_node_that_starts_where_another_one_was_is_there() -> None:
    machine = Machine(layout=layout_of())
    machine.start(member("n2").address)
    assert addresses(machine.layout) == {
        "n1": member("n2").address,
        "n2": "address unknown",
        "n3": member("n3").address,
    }


def test_a_move_is_later_than_all_before_whatever_the_clock_says() -> None:
    """Its own, and that of the node which was there before: the wall clock was set back since."""
    ahead = readdress(layout_of(), move("n1", THERE, WALL_MS + 10**6))
    ahead = readdress(ahead, move("n2", "10.0.0.2:7002", WALL_MS + 2 * 10**6))
    machine = Machine(layout=ahead)
    machine.start("10.0.0.2:7002")
    assert addresses(machine.layout)["n1"] == "10.0.0.2:7002"
    assert machine.node.services.addresses.moved_ms > WALL_MS + 2 * 10**6


def test_a_layout_that_has_another_address_for_this_node_is_put_right_at_an_ever_slower_pace() -> None:
    machine = Machine(layout=layout_of())
    machine.link("n2")
    seconds = []
    layout = machine.layout
    for second in range(100):
        assert layout is not None
        if addresses(machine.layout)["n1"] == HERE:
            seconds.append(second)
            wrong = move("n1", THERE, machine.node.services.addresses.moved_ms + 1)
            layout = readdress(machine.layout, wrong)  # type: ignore[arg-type]
            machine.hear("n2", b"LAYOUT", layout.encode())
            assert addresses(machine.layout)["n1"] == THERE, "it has come from a member, and so it rules"
        machine.pass_ms(1000)
    assert 5 <= len(seconds) <= 8, seconds


def test_a_node_does_not_contend_for_an_address_that_another_one_says_it_has() -> None:
    machine = Machine(layout=layout_of())
    machine.hear("n2", b"LAYOUT", readdress(layout_of(), move("n2", HERE, WALL_MS + 1)).encode())
    machine.pass_ms(5000)
    assert addresses(machine.layout) == {"n1": "address unknown", "n2": HERE, "n3": member("n3").address}


# --- of others


def test_a_member_that_is_missing_is_looked_for_where_it_says_it_is() -> None:
    machine = Machine(layout=layout_of())
    machine.link("n3")
    assert machine.node.services.addresses.missing() == ["n2"]
    outcome = machine.node.services.addresses.found("seed:7001", told("n2", THERE))
    assert outcome == {"asked": "seed:7001", "node": "n2", "address": THERE, "error": ""}
    assert addresses(machine.layout)["n2"] == THERE
    said = machine.said()
    assert machine.layout is not None
    assert said["n3"] == [[b"LAYOUT", machine.layout.encode()]], "who can be reached is told"


def test_a_member_that_has_moved_and_knows_no_cluster_yet_is_found_by_its_id() -> None:
    """It has lost its disk, or its first layout was still to come: it cannot look for the others itself."""
    machine = Machine(layout=layout_of())
    machine.link("n3")
    outcome = machine.node.services.addresses.found("seed:7001", told("n2", THERE, cluster="", epoch=0))
    assert outcome["error"] == "" and addresses(machine.layout)["n2"] == THERE


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (told("n1", HERE, incarnation=WALL_MS), ""),
        (told("n1", THERE, incarnation=7), "a process on a copy of the directory of node n1"),
        (told("n2", THERE, cluster="d"), "node n2 belongs to cluster d, not to c"),
        (told("n9", THERE, cluster="", epoch=0), "node n9 belongs to no cluster"),
        (told("n9", THERE), "node n9 is no member at epoch 1"),
        (told("n3", THERE), ""),
        (told("n2", member("n3").address), ""),
        (told("n2", HERE), ""),
        (told("n2", "nonsense"), ""),
        (told("n2", unknown_address("n2")), ""),
        ({}, "node  belongs to no cluster"),
    ],
    ids=[
        "itself",
        "its copy",
        "other cluster",
        "fresh",
        "no member",
        "linked",
        "taken",
        "ours",
        "no address",
        "?",
        "no",
    ],
)
def test_what_changes_no_address(document: dict[str, Any], error: str) -> None:
    """Nobody moves because of a stranger, nor while it is where the layout has it, nor to where somebody else is."""
    machine = Machine(layout=layout_of())
    machine.link("n3")
    outcome = machine.node.services.addresses.found("seed:1", document)
    assert outcome["error"].startswith(error) and bool(outcome["error"]) == bool(error)
    assert machine.layout == layout_of()


def test_an_earlier_version_says_only_where_it_listens() -> None:
    machine = Machine(layout=layout_of())
    document = told("n2", "0.0.0.0:7002")
    del document["moved_ms"]
    assert machine.node.services.addresses.found("10.0.0.2:7002", document)["address"] == "10.0.0.2:7002"
    assert addresses(machine.layout)["n2"] == "10.0.0.2:7002"


def test_without_a_layout_nobody_is_looked_for() -> None:
    machine = Machine()
    assert machine.node.services.addresses.missing() == []
    assert "belongs to no cluster itself" in machine.node.services.addresses.found("seed:1", told("n2", THERE))["error"]
    assert machine.node.services.addresses.greeting("n2") == ()


def test_who_connects_says_where_it_is() -> None:
    """Its layout may be older than ours: then nothing that it sends says so, and we could not answer it."""
    machine = Machine(layout=readdress(layout_of(), move("n2", THERE, WALL_MS + 5)))
    machine.node.services.addresses.arrived("n2", WALL_MS + 9, member("n2").address)
    assert addresses(machine.layout)["n2"] == member("n2").address
    machine.node.services.addresses.arrived("n2", WALL_MS + 10, "")
    machine.node.services.addresses.arrived("n9", WALL_MS + 10, THERE)
    assert addresses(machine.layout)["n2"] == member("n2").address


def test_a_node_with_a_later_layout_is_told_where_we_are() -> None:
    machine = Machine(layout=layout_of())
    later = commit(layout_of(), [change("join", "n4")])
    assert machine.node.services.addresses.is_ahead(told("n4", THERE, epoch=later.epoch))
    assert not machine.node.services.addresses.is_ahead(told("n4", THERE))
    assert not machine.node.services.addresses.is_ahead(told("n4", THERE, epoch=2, cluster="d"))
    assert not machine.node.services.addresses.is_ahead({})


def test_missing_members_are_looked_for_where_others_were_too() -> None:
    """Two nodes have swapped their addresses: each is where the other was."""
    machine = Machine(layout=layout_of(NAMES[:2]))
    assert machine.node.services.addresses.places() == [member("n2").address]
    machine.start(member("n2").address)
    assert machine.node.services.addresses.places() == [HERE]
    machine.link("n2")
    assert machine.node.services.addresses.places() == []


# --- introductions


def test_an_introduction_says_whom_it_is_for_and_where_its_sender_is() -> None:
    machine = Machine(layout=layout_of())
    words = [
        word.encode() if isinstance(word, str) else word for word in machine.node.services.addresses.greeting("n2")
    ]
    assert looked_for([b"1", b"0", *words, b"LATER"]) == looked_for([b"1", b"0", b"LATER", *words]) == ("n2", HERE)
    assert looked_for([]) == looked_for([b"1", b"0"]) == looked_for([b"FOR"]) == ("", "")
    assert machine.node.services.addresses.mistaken("n1") == machine.node.services.addresses.mistaken("") == ""
    assert machine.node.services.addresses.mistaken("n2") == "OTHER node n1 answers there"


@pytest.mark.parametrize(
    ("text", "reason", "is_quiet"),
    [
        ("-OTHER node n3 answers there", ELSEWHERE, False),
        ("-WAIT another process may be alive", "", True),
        ("-COPY node n1 runs at x", REFUSED, False),
        ("-ERR this node speaks version 2", REFUSED, False),
        ("-ERR node n1 is no member of cluster c at epoch 2", REFUSED, True),
    ],
)
def test_a_refusal_says_what_the_trouble_is(text: str, reason: str, is_quiet: bool) -> None:
    machine = Machine(layout=layout_of())
    assert machine.node.services.addresses.refusal_received("n2", text, machine.now_ms) == is_quiet
    assert machine.node.services.addresses.trouble_with("n2")[0] == reason
    assert bool(machine.node.services.duplicates.refusal_of_us) == text.startswith("-COPY")


def test_why_a_member_cannot_be_reached() -> None:
    machine = Machine(layout=layout_of())
    assert machine.node.services.addresses.trouble_with("n2") == ("", "")
    machine.node.refused("n2", machine.now_ms, STOPPED, "connection refused")
    assert machine.node.services.addresses.trouble_with("n2") == (STOPPED, "connection refused")
    machine.node.connected("n2", machine.now_ms)
    assert machine.node.services.addresses.trouble_with("n2")[0] == SILENT


# --- how addresses are written


def test_addresses_as_they_stand_in_layouts() -> None:
    assert all(map(is_wildcard, ("0.0.0.0:1", "[::]:1", ":::1", ":1")))
    assert not any(map(is_wildcard, ("10.0.0.1:1", "[::1]:1", "a:1")))
    unknown = unknown_address("n1")
    assert is_unknown(unknown) and unknown != unknown_address("n2")
    lost = replace(layout_of().members[0], address=unknown)
    assert replace(layout_of(), members=(lost, *layout_of().members[1:])).members[0] == lost, "a layout may have it"
    assert shown_address(unknown) == "address unknown" and shown_address(HERE) == HERE
