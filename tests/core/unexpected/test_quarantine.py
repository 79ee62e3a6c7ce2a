"""A message that has ended the node is refused after the restart, for a while that grows with each further death."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.core.base.poison import COMMAND, message_digest, poison_of_command, poison_of_message
from server.core.base.quarantine import DEATHS_MAX, HOLD_MS, HOLD_MS_MAX, LABEL_DEATHS, Quarantine
from server.core.base.unexpected import Fatal, RefusedMessage
from server.core.messages import announcements
from server.core.messages.announcements import PoisonCommand, encode_poison
from server.core.messages.reader import HEADER_ITEMS, Reader
from server.core.records.records import META, storage_key_of
from server.core.records.versions import supersede
from server.core.requests import reads, replica
from server.core.work.procedures import Steps
from tests.core.membership.test_membership import WALL_MS, Machine, layout_of
from tests.core.messages.test_round_trip import parsed as items_of

KEY, OTHER = storage_key_of(b"key"), storage_key_of(b"other")
POISON, SOUND = supersede(None, b"actor--2", 5, b"poison"), supersede(None, b"actor--2", 6, b"sound")
NOW_MS = 10_000_000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One of three. It raises whenever it has stored the value "poison"."""
    store = replica.store

    def faulty(state: object, pairs: list[bytes]) -> str | None:
        refusal = store(state, pairs)  # type: ignore[arg-type]
        assert POISON not in pairs
        return refusal

    monkeypatch.setattr(replica, "store", faulty)
    machine = Machine(layout=layout_of())
    machine.link("n2", "n3")
    return machine


def die(machine: Machine, kind: bytes, *items: bytes, number: int = 1) -> None:
    """The message ends the node, which is started again."""
    with pytest.raises(Fatal) as caught:
        machine.hear("n2", kind, *items, number=number)
    machine.engine.commit(machine.node.crash_report(caught.value)[0])
    machine.start()
    machine.link("n2", "n3")


def empty() -> Quarantine:
    return Quarantine(Machine().node.state.records)


def test_the_same_message_is_refused_after_the_restart_and_others_are_not(machine: Machine) -> None:
    die(machine, b"STORE", KEY, POISON)
    assert machine.hear("n2", b"STORE", KEY, POISON, number=5) == {"n2": [[b"REFUSED"]]}
    assert machine.hear("n3", b"STORE", KEY, POISON, number=6) == {"n3": [[b"REFUSED"]]}, "whoever sends it"
    assert machine.hear("n2", b"STORE", OTHER, SOUND, number=7) == {"n2": [[b"STORED"]]}
    state = machine.node.state
    assert state.records.get(KEY) is None and state.records.get(OTHER) == SOUND
    assert state.statistics.messages_undigested == 2
    (incident,) = state.unexpected.drain_incidents()
    assert isinstance(incident.error, RefusedMessage) and "STORE" in incident.doing
    assert state.quarantine.held(state.wall_ms) == {"STORE": 1}


def test_it_is_tried_again_after_the_hold_and_refused_for_longer_if_it_is_still_deadly(machine: Machine) -> None:
    die(machine, b"STORE", KEY, POISON)
    for hold_ms in (HOLD_MS, 2 * HOLD_MS, 4 * HOLD_MS):
        machine.node.state.wall_offset_ms += hold_ms - 1
        assert machine.hear("n2", b"STORE", KEY, POISON, number=5) == {"n2": [[b"REFUSED"]]}
        machine.node.state.wall_offset_ms += 1
        with pytest.raises(Fatal) as caught:
            machine.hear("n2", b"STORE", KEY, POISON, number=6)
        offset_ms = machine.node.state.wall_offset_ms
        machine.engine.commit(machine.node.crash_report(caught.value)[0])
        machine.start()
        machine.link("n2", "n3")
        machine.node.state.wall_offset_ms = offset_ms


@pytest.mark.parametrize(
    ("kind", "items", "answer"),
    [
        (b"KEEP", (KEY, POISON), [[b"REFUSED"]]),
        (b"ASK", (b"ABSORB", KEY, POISON), [[b"ANSWER"]]),
        (b"HINT", (b"n3", KEY, POISON), [[b"REFUSED"]]),
    ],
)
def test_each_request_is_refused_in_its_own_way(
    machine: Machine, kind: bytes, items: tuple[bytes, ...], answer: list[list[bytes]]
) -> None:
    die(machine, kind, *items)
    assert machine.hear("n2", kind, *items, number=5) == {"n2": answer}


def test_records_that_have_ended_the_node_are_a_replica_that_refuses(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[tuple[str, int]] = []
    machine.node.state.unexpected.plant("message RECORDS")
    die(machine, b"RECORDS", POISON)
    monkeypatch.setattr(reads.Reads, "refused", lambda self, node, number: refused.append((node, number)))
    machine.hear("n2", b"RECORDS", POISON, number=9)
    assert refused == [("n2", 9)]


@pytest.mark.parametrize("kind", [b"STORED", b"RELAYED", b"SAME", b"GOSSIP", b"ANSWER"])
def test_what_has_no_form_of_its_own_is_not_remembered(machine: Machine, kind: bytes) -> None:
    items: dict[bytes, tuple[bytes, ...]] = {b"RELAYED": (bytes(4), b"+OK\r\n"), b"GOSSIP": (b"1", b"n2 5 6 up")}
    machine.node.state.unexpected.plant(f"message {kind.decode()}", Fatal("planted"))
    with pytest.raises(Fatal) as caught:
        machine.hear("n2", kind, *items.get(kind, ()), number=1)
    assert machine.node.crash_report(caught.value) == ({}, b"")


def test_what_is_said_once_is_known_by_its_number(machine: Machine) -> None:
    machine.node.state.unexpected.plant("message FULL")
    die(machine, b"FULL", number=2)
    machine.hear("n2", b"FULL", number=2)
    assert machine.node.state.full == {}
    machine.hear("n2", b"FULL", number=1)
    assert machine.node.state.full == {"n2": 1}


# The table of holds


def test_after_some_deaths_all_messages_with_the_label_are_refused() -> None:
    """Ballots have names: none comes twice in the same form."""
    quarantine = empty()
    for number in range(1, LABEL_DEATHS + 1):
        assert not quarantine.refuses(poison_of_message("ASK VOTE", [b"another"]), NOW_MS)
        quarantine.add(poison_of_message("ASK VOTE", [b"ballot %d" % number]), NOW_MS)
    assert quarantine.refuses(poison_of_message("ASK VOTE", [b"another"]), NOW_MS + HOLD_MS - 1)
    assert not quarantine.refuses(poison_of_message("ASK VOTE", [b"another"]), NOW_MS + HOLD_MS)
    assert not quarantine.refuses(poison_of_message("ASK LINE", [b"another"]), NOW_MS)
    quarantine.add(poison_of_message("ASK VOTE", [b"ballot 9"]), NOW_MS)
    assert quarantine.refuses(poison_of_message("ASK VOTE", [b"another"]), NOW_MS + 2 * HOLD_MS - 1)
    assert quarantine.held(NOW_MS) == {"ASK VOTE": LABEL_DEATHS + 1}


def test_no_hold_is_longer_than_a_day_and_deaths_are_forgotten_after_one() -> None:
    quarantine = empty()
    for _ in range(40):
        quarantine.add(poison_of_message("STORE", [b"x"]), NOW_MS)
    assert quarantine.refuses(poison_of_message("STORE", [b"x"]), NOW_MS + HOLD_MS_MAX - 1)
    assert not quarantine.refuses(poison_of_message("STORE", [b"x"]), NOW_MS + HOLD_MS_MAX)
    later_ms = NOW_MS + HOLD_MS_MAX + 1
    quarantine.add(poison_of_message("STORE", [b"x"]), later_ms)
    assert not quarantine.refuses(poison_of_message("STORE", [b"x"]), later_ms + HOLD_MS), "it is the first death again"


def test_a_command_is_known_by_all_its_arguments_and_after_some_deaths_by_its_name_and_key() -> None:
    quarantine = empty()
    quarantine.add(poison_of_command([b"set", b"k", b"1"]), NOW_MS)
    assert quarantine.refuses_command([b"SET", b"k", b"1"], NOW_MS + HOLD_MS - 1), "however it is spelt"
    for others in ([b"SET", b"k", b"2"], [b"SET", b"l", b"1"], [b"GET", b"k"], [b"SET"]):
        assert not quarantine.refuses_command(others, NOW_MS)
    for value in (b"2", b"3"):
        quarantine.add(poison_of_command([b"SET", b"k", value]), NOW_MS)
    assert quarantine.refuses_command([b"SET", b"k", b"4"], NOW_MS + HOLD_MS - 1)
    assert not quarantine.refuses_command([b"SET", b"k", b"4"], NOW_MS + HOLD_MS)
    assert not quarantine.refuses_command([b"SET", b"l", b"4"], NOW_MS)
    assert quarantine.held(NOW_MS) == {"command SET 'k'": 3}


def test_commands_take_the_fast_path_again_a_day_after_the_last_death() -> None:
    quarantine = empty()
    quarantine.add(poison_of_command([b"SET", b"k", b"1"]), NOW_MS)
    assert quarantine.commands
    quarantine.refuses_command([b"GET", b"l"], NOW_MS + HOLD_MS_MAX)
    assert quarantine.commands, "it counts as another death until then"
    quarantine.refuses_command([b"GET", b"l"], NOW_MS + HOLD_MS_MAX + 1)
    assert not quarantine.commands and not quarantine.known


@pytest.mark.parametrize("args", [[b"\xff" * 600], [b"SET", b"\xff\0" * 4000, b"v"], [b"GET", "ß".encode() * 300]])
def test_the_poison_of_any_command_fits_into_its_message(args: list[bytes]) -> None:
    poison = poison_of_command(args)
    content = PoisonCommand(poison.label.removeprefix(COMMAND), poison.digest)
    message = items_of(encode_poison(5, content))
    assert announcements.POISON.read(Reader(message, 0, HEADER_ITEMS)) == content and poison.is_command


def test_a_clock_that_was_set_back_holds_nothing_for_ever() -> None:
    quarantine = empty()
    quarantine.add(poison_of_message("STORE", [b"x"]), NOW_MS)
    assert quarantine.refuses(poison_of_message("STORE", [b"x"]), NOW_MS - HOLD_MS + 1)
    assert not quarantine.refuses(poison_of_message("STORE", [b"x"]), NOW_MS - HOLD_MS)


def test_only_so_many_are_remembered_and_the_latest_are() -> None:
    quarantine = empty()
    for number in range(2 * DEATHS_MAX):
        quarantine.add(poison_of_message("STORE", [b"%d" % number]), NOW_MS)
    assert len(quarantine.known) == DEATHS_MAX
    assert ("STORE", message_digest([b"%d" % (2 * DEATHS_MAX - 1)])) in quarantine.known and (
        "STORE",
        "",
    ) in quarantine.known


@pytest.mark.parametrize("document", [b"{", b"[5]", b'[["STORE"]]', b"null", b'[["STORE", "", "x", 1]]'])
def test_a_damaged_document_counts_as_none(document: bytes) -> None:
    machine = Machine()
    machine.engine.commit({META + b"deaths": document})
    machine.start()
    assert machine.node.state.quarantine.known == {}


def test_a_procedure_that_has_ended_the_node_twice_begins_later(machine: Machine) -> None:
    """A first death may be a matter of chance, and a node without a procedure is not whole."""
    ran: list[int] = []

    def steps() -> Steps:
        while True:
            yield machine.node.services.background.sleep(100)
            ran.append(machine.now_ms)
            raise ValueError("each time")

    for death in range(4):
        begun_ms = machine.now_ms
        machine.node.services.background.run_forever("it", steps)
        with pytest.raises(Fatal) as caught:
            machine.pass_ms(10 * HOLD_MS)
        wait_ms = ran[-1] - begun_ms
        assert wait_ms // HOLD_MS == (0, 0, 1, 2)[death]
        machine.engine.commit(machine.node.crash_report(caught.value)[0])
        machine.start()
        machine.pass_ms(100)
    assert machine.node.state.quarantine.held(WALL_MS + machine.now_ms) == {"procedure it": 4}


PAIRS: list[tuple[list[object], list[object]]] = [
    ([b"ab", b"c"], [b"a", b"bc"]),
    ([[b"a", b"b"]], [[b"a"], [b"b"]]),
    ([b"a"], [b"a", b""]),
    ([], [b""]),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_different_messages_have_different_digests(one: list[object], other: list[object]) -> None:
    digest: Callable[[list[object]], str] = message_digest
    assert digest(one) != digest(other) and digest(one) == digest(list(one))
