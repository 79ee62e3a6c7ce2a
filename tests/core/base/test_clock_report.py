"""Which clocks the status reports as wrong, given what each node read between a question and its answer."""

from __future__ import annotations

import pytest

from server.core.base.clock_report import clock_remarks
from tests.core.commands.talking import layout_of, make_node, member

ASKED_MS, ANSWERED_MS = 100_000, 103_000


@pytest.mark.parametrize(
    ("readings_ms", "named"),  # of n1, n2, … while a right clock read so; and who is off, by how many seconds
    [
        ([], {}),
        ([100_000], {}),
        ([100_000, 103_000, 101_500], {}),
        ([100_000, 95_000, 108_000], {}),  # as far off as may be
        ([100_000, 94_999, 101_000], {"n2": "5 s behind"}),
        ([100_000, 108_001, 101_000], {"n2": "5 s ahead"}),
        ([100_000, 101_000, 823_000], {"n3": "720 s ahead"}),
        ([101_000, 133_000, 70_000], {"n2": "30 s ahead", "n3": "30 s behind"}),
        ([101_000, 133_000], {"n2": "30 s ahead"}),
        ([101_000, 70_000], {"n2": "30 s behind"}),
    ],
)
def test_who_is_off(readings_ms: list[int], named: dict[str, str]) -> None:
    clocks_ms = {f"n{number + 1}": reading_ms for number, reading_ms in enumerate(readings_ms)}
    found = clock_remarks(clocks_ms, ASKED_MS, ANSWERED_MS, 5000)
    assert len(found) == len(named)
    for remark, (name, off) in zip(found, named.items(), strict=True):
        assert remark.startswith(f"the clock of {name} is {off}")


def test_who_is_no_member_any_more_complains_no_more() -> None:
    node = make_node(members=2)
    node.services.clock_report.complained(member(2).id, 7000)
    assert node.services.clock_report.complaints() == {"n2": 7000}
    assert node.state.layout is not None
    node.state.adopt(layout_of((member(1),)))
    assert node.services.clock_report.complaints() == {}
