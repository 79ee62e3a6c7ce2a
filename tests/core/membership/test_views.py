"""Which layout each peer has: what is compared first, and when a whole layout is sent."""

from __future__ import annotations

from xxhash import xxh3_64_hexdigest

from server.core.membership.views import RESEND_MS
from server.core.messages.announcements import view_items
from server.core.ring.change import WEIGHT
from server.core.ring.succession import commit
from tests.core.membership.test_membership import Machine, change, layout_of


def _checksum(document: bytes) -> bytes:
    return xxh3_64_hexdigest(document).encode()


def view_of(machine: Machine) -> list[bytes]:
    """Returns the view of a machine's layout as the items of a message."""
    view = machine.node.services.membership.view()
    assert view is not None
    return view_items(view)


def test_views_bring_the_older_of_two_layouts_up_to_date() -> None:
    first = layout_of()
    second = commit(first, [change(WEIGHT, "n2", weight=2)])
    newer, older = Machine("n1", second), Machine("n2", first)
    newer.link("n2")
    older.link("n1")
    newer.now_ms += RESEND_MS
    view = view_of(older)
    assert newer.hear("n2", b"VIEW", *view) == {"n2": [[b"LAYOUT", second.encode()]]}
    ours = view_of(newer)
    assert older.hear("n1", b"VIEW", *ours) == {"n1": [[b"VIEW", *view]]}
    assert older.hear("n3", b"VIEW", *ours) == {}, "it has asked for that layout already"
    assert newer.hear("n2", b"VIEW", *ours) == {}


def test_of_two_layouts_of_one_version_both_nodes_send_theirs() -> None:
    first = layout_of()
    ours = commit(first, [change(WEIGHT, "n2", weight=2)])
    theirs = commit(first, [change(WEIGHT, "n3", weight=3)])
    one, other = Machine("n1", ours), Machine("n2", theirs)
    one.link("n2")
    one.now_ms += RESEND_MS
    view = view_of(other)
    assert one.hear("n2", b"VIEW", *view) == {"n2": [[b"LAYOUT", ours.encode()]]}


def test_a_layout_is_not_sent_to_a_peer_that_has_it() -> None:
    layout = layout_of()
    machine = Machine(layout=layout)
    view = view_of(machine)
    machine.node.connected("n2", machine.now_ms, view=view)
    machine.node.connected("n3", machine.now_ms)
    said = machine.said()
    assert [b"LAYOUT", layout.encode()] not in said["n2"]
    assert [b"LAYOUT", layout.encode()] in said["n3"], "an older node does not tell its view"
    following = commit(layout, [change(WEIGHT, "n2", weight=2)])
    machine.hear("n2", b"VIEW", b"2", b"0", _checksum(following.encode()))
    machine.node.services.membership.make(following)
    said = machine.said()
    assert "n2" not in said
    assert said["n3"] == [[b"LAYOUT", following.encode()]]


def test_a_peer_is_not_sent_the_same_layout_again_before_it_can_have_read_it() -> None:
    first = layout_of()
    second = commit(first, [change(WEIGHT, "n2", weight=2)])
    machine = Machine(layout=second)
    machine.link("n2")
    old = [b"1", b"0", _checksum(first.encode())]
    machine.now_ms += RESEND_MS
    assert machine.hear("n2", b"VIEW", *old) == {"n2": [[b"LAYOUT", second.encode()]]}
    assert machine.hear("n2", b"VIEW", *old) == {}
    table = [b"n2 1 2 up"]
    gossip = machine.hear("n2", b"GOSSIP", b"1", *table)
    assert b"LAYOUT" not in [message[0] for messages in gossip.values() for message in messages]
    machine.now_ms += RESEND_MS
    assert machine.hear("n2", b"VIEW", *old) == {"n2": [[b"LAYOUT", second.encode()]]}


def test_gossip_carries_a_view() -> None:
    machine = Machine(layout=layout_of())
    machine.node.connected("n2", machine.now_ms)
    kinds = [message[0] for message in machine.said()["n2"]]
    assert kinds == [b"LAYOUT", b"ORDERLY", b"CLOCK", b"TIME", b"GOSSIP", b"VIEW"]
