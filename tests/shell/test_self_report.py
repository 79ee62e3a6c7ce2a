"""What a node tells `dyn doctor` of itself: the causes of findings, as the core knows them."""

from __future__ import annotations

from server.core.operators.self_report import facts
from tests.shell.test_metrics import made


def test_a_node_tells_of_hints_comparisons_and_access_by_names() -> None:
    shell, _ = made()
    services, state = shell.services, shell.node.state
    state.is_filling = False  # whoever is filled leads no comparisons
    assert state.layout is not None
    second, third = (member.id for member in state.layout.members if member.id != state.id)
    names = {member.id: member.name for member in state.layout.members}
    state.hints.keep(second, [b"key"], state.wall_ms - 7_200_000, 0, False)
    state.hints.dropped_hints[third] = 4
    services.anti_entropy.compared_ms[third] = state.now_ms - 90_000_000
    services.access.protected_mode = False
    told = facts(services)
    (hint,) = told["hints"]
    assert (hint["owner"], hint["count"], hint["oldest_s"]) == (names[second], 1, 7200)
    assert told["hints_dropped"] == {names[third]: 4} and told["compared_s"] == {names[third]: 90_000}
    assert (told["has_password"], told["is_protected"], told["peer_auth"]) == (False, False, "none")
    assert told["settings"]["fsync"] == state.config.fsync


def test_two_layouts_of_one_epoch_can_be_told_apart() -> None:
    one, other = made()[0], made(4)[0]
    assert facts(one.services)["epoch"] == facts(other.services)["epoch"]
    assert facts(one.services)["layout"] != facts(other.services)["layout"]


def test_a_fresh_node_tells_of_itself_without_a_layout() -> None:
    shell, _ = made()
    shell.node.state.layout = None
    assert (facts(shell.services)["epoch"], facts(shell.services)["layout"]) == (0, "")
