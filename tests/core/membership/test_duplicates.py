"""Two processes with one node's id: which of them is listened to, and who is told."""

from __future__ import annotations

import itertools

import pytest

from server.core.membership.duplicates import AGAIN_MS, CONFIRM_MS, FRESH_MS, AddressVerdict, LinkState, judge
from tests.core.membership.test_membership import Machine, layout_of, member

LISTED, ELSEWHERE = member("n2").address, "127.0.0.1:7999"


@pytest.mark.parametrize(
    ("is_present", "moves", "connected", "link_state", "speaks"),
    list(itertools.product((True, False), (True, False), (True, False), LinkState, (True, False))),
)
def test_the_table(is_present: bool, moves: bool, connected: bool, link_state: LinkState, speaks: bool) -> None:
    """A process is doubted only while another one is alive where it should be, and waits only for that to be found out."""
    verdict = judge(is_present, moves, connected, link_state, speaks)
    alive = speaks and (connected or (moves and link_state is LinkState.OPEN))
    if is_present:
        assert verdict is AddressVerdict.ACCEPTED
    elif alive:
        assert verdict is AddressVerdict.SUSPECTED
    elif moves and link_state is LinkState.UNTRIED:
        assert verdict is AddressVerdict.LATER
    else:
        assert verdict is AddressVerdict.ACCEPTED, "a restart waits for nobody"


class Member(Machine):
    """n1, and what it says to processes of n2."""

    def __init__(self) -> None:
        super().__init__(layout=layout_of())
        self.present = 0

    def meet(
        self, incarnation: int, address: str = LISTED, connected: bool = True, link_state: LinkState = LinkState.OPEN
    ) -> str:
        """A process introduces itself; if it is listened to it speaks from now on."""
        refusal = self.node.services.duplicates.refusal("n2", incarnation, address, connected, link_state)
        if not refusal:
            self.present = incarnation
        return refusal.partition(" ")[0]

    def speak(self) -> None:
        """The process that is listened to says something."""
        self.hear("n2", b"FULL")


def met() -> Member:
    """n1 listens to process 1 of n2, which is well."""
    machine = Member()
    machine.link("n2", "n3")
    assert machine.meet(1, connected=False, link_state=LinkState.UNTRIED) == ""
    machine.speak()
    machine.pass_ms(1000)
    machine.speak()
    return machine


def test_a_process_that_came_before_the_first_layout_may_connect_a_second_time() -> None:
    """Its first connection stands meanwhile, and it is not taken for another process."""
    machine = Member()
    layout, machine.node.state.layout = machine.node.state.layout, None
    assert machine.meet(1, connected=False, link_state=LinkState.UNTRIED) == ""
    machine.node.state.layout = layout
    machine.link("n2", "n3")
    machine.speak()
    for _ in range(3):
        assert machine.meet(1) == ""
        machine.pass_ms(CONFIRM_MS)
        machine.speak()


@pytest.mark.parametrize("address", [LISTED, ELSEWHERE, ""])
def test_a_process_that_has_died_makes_room_at_once(address: str) -> None:
    """Its connections are closed; at the same address, another one, or one that an earlier version does not tell."""
    machine = met()
    machine.node.disconnected("n2", machine.now_ms)
    assert machine.meet(2, address, connected=False, link_state=LinkState.FAILED) == ""
    assert machine.meet(2, address, connected=True) == "", "and connects as often as it likes"


def test_a_process_that_is_silent_makes_room_though_its_connections_stand() -> None:
    """Its machine has lost power. Our link does not show that before long."""
    machine = met()
    assert machine.meet(2, ELSEWHERE) == "WAIT"
    machine.pass_ms(1000)
    assert machine.meet(2, ELSEWHERE) == "WAIT", "it has not spoken since, and may be dead"
    machine.pass_ms(1500)
    assert machine.meet(2, ELSEWHERE) == ""


def test_a_restart_at_the_same_address_is_no_copy_because_our_link_leads_to_it() -> None:
    """The machine has lost power and is back: the old connection stands and is silent; our link reaches the new process."""
    machine = met()
    assert machine.meet(2) == "WAIT"
    machine.pass_ms(300)
    machine.node.disconnected("n2", machine.now_ms)
    machine.node.connected("n2", machine.now_ms)
    assert machine.meet(2) == "WAIT"
    machine.pass_ms(1800)
    assert machine.meet(2) == ""


def test_a_second_process_is_refused_while_the_first_speaks_and_both_are_told() -> None:
    machine = met()
    assert machine.meet(2, ELSEWHERE) == "WAIT"
    assert machine.said().get("n2", []) == []
    machine.pass_ms(CONFIRM_MS)
    machine.speak()
    assert machine.meet(2, ELSEWHERE) == "COPY"
    assert [b"COPY", ELSEWHERE.encode()] in machine.said()["n2"], "the original hears of it"
    assert machine.node.services.duplicates.seen() == {"n2": [ELSEWHERE]}
    assert machine.meet(2, ELSEWHERE) == "COPY"
    assert b"COPY" not in [words[0] for words in machine.said().get("n2", [])], "but not four times a second"
    machine.pass_ms(AGAIN_MS)
    machine.speak()
    assert machine.meet(2, ELSEWHERE) == "COPY"
    assert b"COPY" in [words[0] for words in machine.said()["n2"]]
    machine.pass_ms(FRESH_MS)
    assert machine.node.services.duplicates.seen() == {}, "it has ended"


def test_what_the_first_process_sent_before_it_died_proves_nothing() -> None:
    """It is read in the same moment in which the second one introduces itself."""
    machine = met()
    assert machine.meet(2) == "WAIT"
    machine.speak()
    assert machine.meet(2) == "WAIT"
    assert machine.meet(2, connected=False, link_state=LinkState.FAILED) == "", (
        "now the end of its connection has been read"
    )


def test_a_copy_does_not_take_over_when_the_original_is_restarted() -> None:
    machine = met()
    assert machine.meet(2, ELSEWHERE) == "WAIT"
    machine.pass_ms(CONFIRM_MS)
    machine.speak()
    assert machine.meet(2, ELSEWHERE) == "COPY"
    machine.node.disconnected("n2", machine.now_ms)
    assert machine.meet(2, ELSEWHERE, connected=False, link_state=LinkState.FAILED) == "COPY"
    assert machine.meet(3, connected=False, link_state=LinkState.FAILED) == "", "the original is"
    assert machine.meet(4, ELSEWHERE, connected=False, link_state=LinkState.FAILED) == "", (
        "and so is the copy, started anew alone"
    )


def test_a_member_that_has_started_looks_at_the_address_in_the_layout_first() -> None:
    machine = Member()
    assert machine.meet(2, ELSEWHERE, connected=False, link_state=LinkState.UNTRIED) == "WAIT"
    machine.node.connected("n2", machine.now_ms)
    machine.pass_ms(CONFIRM_MS)
    assert machine.meet(2, ELSEWHERE, connected=False, link_state=LinkState.OPEN) == "WAIT"
    assert machine.meet(1, connected=False, link_state=LinkState.OPEN) == "", "the one at that address is the one"
    machine.speak()
    machine.pass_ms(CONFIRM_MS)
    machine.speak()
    assert machine.meet(2, ELSEWHERE) == "COPY"


def test_a_member_that_has_started_takes_a_node_that_has_moved() -> None:
    machine = Member()
    assert machine.meet(2, ELSEWHERE, connected=False, link_state=LinkState.UNTRIED) == "WAIT"
    assert machine.meet(2, ELSEWHERE, connected=False, link_state=LinkState.FAILED) == ""


def test_a_node_that_slept_itself_does_not_take_the_others_for_silent() -> None:
    """What they have sent meanwhile waits in its sockets."""
    machine = met()
    machine.now_ms += 60_000
    machine.node.state.at(machine.now_ms)
    assert machine.meet(2, ELSEWHERE) == "WAIT"


def test_who_is_no_member_is_no_copy() -> None:
    machine = Member()
    assert machine.node.services.duplicates.refusal("n9", 1, ELSEWHERE, True, LinkState.OPEN) == ""
    assert Machine("n5").node.services.duplicates.refusal("n1", 1, ELSEWHERE, True, LinkState.OPEN) == ""


def test_copies_that_come_and_go_fill_no_memory() -> None:
    machine = met()
    for incarnation in range(10, 300):
        machine.meet(incarnation, ELSEWHERE)
        machine.pass_ms(CONFIRM_MS)
        machine.speak()
        assert machine.meet(incarnation, ELSEWHERE) == "COPY"
        machine.node.services.duplicates.duplicate_reported(f"10.0.0.1:{incarnation}")
    seen = machine.node.services.duplicates.seen()
    assert len(seen["n1"]) <= 64 and len(seen["n2"]) <= 64


def test_the_original_hears_of_its_copies() -> None:
    machine = met()
    machine.hear("n2", b"COPY", b"127.0.0.1:7777")
    assert machine.node.services.duplicates.of_us() == ["127.0.0.1:7777"]
    assert machine.node.services.duplicates.seen() == {"n1": ["127.0.0.1:7777"]}
    machine.pass_ms(FRESH_MS)
    assert machine.node.services.duplicates.of_us() == []


def asked(machine: Machine) -> bytes:
    """What a client gets who writes at this node."""
    machine.pass_ms(100)
    session = machine.node.open_session("client:1", "here:1", machine.now_ms)
    machine.node.command(session, [b"SET", b"key", b"value"], machine.now_ms)
    return b"".join(data for to, data in machine.turn().replies if to is session)


def test_a_copy_knows_what_it_is_and_serves_nobody_until_a_member_takes_it() -> None:
    machine = Member()
    machine.node.services.addresses.refusal_received("n2", "-COPY node n1 runs elsewhere", machine.now_ms)
    assert machine.node.services.duplicates.refusal_of_us == "COPY node n1 runs elsewhere"
    assert asked(machine).startswith(
        b"-CLUSTERDOWN this process serves no requests, because the cluster refuses it: COPY node n1"
    )
    machine.node.connected("n2", machine.now_ms)
    machine.pass_ms(100)
    assert machine.node.services.duplicates.refusal_of_us == ""
    assert not asked(machine).startswith(b"-CLUSTERDOWN")
