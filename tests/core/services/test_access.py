"""Protected mode, the settings that it follows, and the notes of what operators do."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from server.core.commands.audited import AUDITED
from server.core.commands.table import COMMANDS
from server.core.ring.addresses import is_loopback
from server.core.services.access import DENIED, ClientAccess
from server.core.services.audit import NOTES_MAX
from tests.core.commands.talking import Client, make_node

CONFIG = {"engine": "memory", "tree_leaf_bits": 14}


@pytest.mark.parametrize(
    ("protected", "password", "local", "verified", "served"),
    [
        (False, False, False, False, True),
        (False, True, False, False, True),
        (True, True, False, False, True),
        (True, False, True, False, True),
        (True, False, False, True, True),
        (True, False, False, False, False),
    ],
)
def test_who_is_served(protected: bool, password: bool, local: bool, verified: bool, served: bool) -> None:
    access = ClientAccess(protected, lambda: password)
    assert (access.denial(local, verified) == "") is served
    assert DENIED.startswith("DENIED ") and "CONFIG SET protected-mode no" in DENIED


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True),
     ("localhost", True), ("fe80::1%eth0", False), ("10.0.0.1", False), ("0.0.0.0", False), ("::", False),
     ("::ffff:10.0.0.1", False), ("127.0.0.1.evil.example", False), ("", False), ("?", False)],
)  # fmt: skip
def test_loopback(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_config_set_switches_protected_mode_until_the_next_start() -> None:
    node = make_node(config=Config.of(CONFIG))
    client = Client(node)
    assert client.ask("CONFIG GET protected-mode") == ["protected-mode", "yes"]
    assert client.ask("CONFIG SET protected-mode NO") == "OK"
    assert not node.services.access.is_protected()
    assert client.ask("CONFIG GET protected*") == ["protected_mode", "no", "protected-mode", "no"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("CONFIG SET protected-mode maybe", "argument must be 'yes' or 'no'"),
        ("CONFIG SET protected-mode no protected-mode", "ERR syntax error"),
        ("CONFIG SET protected-mode no peers_max 5", "'peers_max') - can't set immutable config"),
    ],
)
def test_a_refused_config_set_changes_nothing(line: str, error: str) -> None:
    node = make_node(config=Config.of(CONFIG))
    assert error in Client(node).error(line)
    assert node.services.access.protected_mode


def test_what_destroys_is_noted_with_its_client() -> None:
    node = make_node(config=Config.of(CONFIG))
    client = Client(node)
    client.ask("SET k v")
    refusal = client.error("DYN.CLUSTER COMMIT 3")
    client.ask("CONFIG SET protected-mode no")
    client.ask("FLUSHALL CONFIRM")
    notes, dropped = node.services.audit.drain()
    who = "user 'default' at 10.0.0.9:50000"
    assert dropped == 0 and notes == [
        ("dyn.cluster|commit", "DYN.CLUSTER COMMIT 3", who, ""),
        ("dyn.cluster|commit", "DYN.CLUSTER COMMIT 3", who, refusal),
        ("config|set", "CONFIG SET protected-mode no", who, ""),
        ("flushall", "FLUSHALL CONFIRM", who, ""),
    ]
    assert node.services.audit.drain() == ([], 0)


def test_another_r_or_w_is_noted_as_a_change_of_members_is() -> None:
    node = make_node(config=Config.of(CONFIG))
    refusal = Client(node).error("DYN.CLUSTER QUORUM R 9")
    assert [note[0::3] for note in node.services.audit.drain()[0]] == [
        ("dyn.cluster|quorum", ""),
        ("dyn.cluster|quorum", refusal),
    ]


@pytest.mark.parametrize("name", [b"requirepass", b"RequirePass", b"requirepass\0x"])
def test_a_password_is_not_noted(name: bytes) -> None:
    node = make_node(config=Config.of(CONFIG))
    Client(node).raw_words([b"CONFIG", b"SET", b"siblings_max", b"5", name, b"open sesame"])
    assert node.services.audit.drain()[0][0][1] == "CONFIG SET siblings_max (not shown)"


def test_notes_are_bounded_in_number_and_length() -> None:
    node = make_node(config=Config.of(CONFIG))
    client = Client(node)
    for _ in range(NOTES_MAX + 3):
        client.error(f"DYN.CLUSTER LEAVE {'x' * 1000}")
    notes, dropped = node.services.audit.drain()
    assert len(notes) == NOTES_MAX and dropped == NOTES_MAX // 2 + 3 and all(len(words) < 200 for _, words, *_ in notes)


def test_who_begins_and_ends_tasks_and_holds_clients_is_noted() -> None:
    node = make_node(config=Config.of(CONFIG))
    client = Client(node)
    client.error("DYN.TASK ABORT nosuch")
    for line in ("DYN.REPAIR START", "CLIENT PAUSE 1", "CLIENT UNPAUSE"):
        client.raw(line)
    notes = [(words, bool(refusal)) for _, words, _, refusal in node.services.audit.drain()[0]]
    assert notes == [
        ("DYN.TASK ABORT nosuch", False), ("DYN.TASK ABORT nosuch", True), ("DYN.REPAIR START", False),
        ("CLIENT PAUSE 1", False), ("CLIENT UNPAUSE", False),
    ]  # fmt: skip


def test_the_audited_commands_exist() -> None:
    names = {sub.name for spec in COMMANDS for sub in (spec, *spec.subcommands)}
    assert names >= AUDITED


def test_protected_mode_knows_whether_clients_need_a_password() -> None:
    node = make_node()
    admin = Client(node)
    assert node.services.access.is_protected()
    admin.ask("CONFIG SET requirepass x")
    assert not node.services.access.is_protected()
    admin.raw_words([b"CONFIG", b"SET", b"requirepass", b""])
    assert node.services.access.is_protected()
    admin.ask("ACL SETUSER default off")
    assert not node.services.access.is_protected(), "nobody gets in without a login"
