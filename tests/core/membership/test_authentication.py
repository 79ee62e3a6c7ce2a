"""When a node requires proofs of others: the table of authentication.py, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.core.node import Node
from tests.core.commands.talking import CONFIG, finish_turn, make_node, member

SECRET, OTHER = bytes(32), bytes([1]) * 32


def _tick(node: Node) -> None:
    node.services.authentication.tick()
    finish_turn(node)


@pytest.mark.parametrize(
    ("members", "secrets", "setting", "mode"),
    [
        (0, (), True, "none"),
        (3, (), True, "none"),
        (0, (SECRET,), True, "required"),
        (3, (SECRET,), True, "open"),
        (0, (SECRET,), False, "open"),
    ],
)
def test_a_node_requires_proofs_if_it_has_a_secret_before_it_has_a_layout(
    members: int, secrets: tuple[bytes, ...], setting: bool, mode: str
) -> None:
    authentication = make_node(members, replace(CONFIG, peer_auth_required=setting)).services.authentication
    authentication.set_secrets(secrets)
    assert authentication.mode == mode
    assert bool(authentication.plain_refusal()) == (mode == "required")


def test_an_upgraded_cluster_requires_proofs_once_all_other_members_have_given_one() -> None:
    node = make_node(3)
    authentication = node.services.authentication
    authentication.set_secrets((SECRET,))
    for number in (2, 9, 2):  # one of them is no member
        authentication.proven(member(number).id)
        _tick(node)
        assert not authentication.is_required and not authentication.was_closed
        assert authentication.waits_for() == [member(3).id]
    authentication.proven(member(3).id)
    _tick(node)
    assert authentication.is_required and authentication.was_closed and authentication.waits_for() == []
    assert authentication.plain_refusal().startswith("NOPROOF node n1 takes messages only from nodes that prove")


def test_what_is_required_once_stays_required_also_in_later_processes_and_after_a_rotation() -> None:
    node = make_node(1)
    authentication = node.services.authentication
    authentication.set_secrets((SECRET,))
    _tick(node)
    assert authentication.is_required
    authentication.set_secrets((OTHER, SECRET))
    assert authentication.is_required
    assert node.state.records.document(b"authenticated") == b"1", "the next process reads it before it has secrets"


def test_a_new_cluster_is_never_open() -> None:
    """The first layout comes after the secret: there is no moment at which a plain introduction is accepted."""
    node = make_node(0)
    authentication = node.services.authentication
    authentication.set_secrets((SECRET,))
    layout = make_node(3).state.layout
    assert layout is not None
    node.state.adopt(layout)
    assert authentication.is_required
    _tick(node)
    assert authentication.is_required and authentication.was_closed
