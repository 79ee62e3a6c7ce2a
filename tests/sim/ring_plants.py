"""Bugs on purpose in what changes the ring: commits, transfers, handovers, cleanup (P4, P8, P9). See plants.py.

One is not found by storms, for it takes a node that loses a key, gets it again, and writes it before it has it whole: an
actor that is kept when what it wrote is let go (P2). tests/core/membership/test_membership.py holds that it is renewed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from server.core.base.quorum import Tally
from server.core.base.routing import Plan
from server.core.base.state import State
from server.core.membership import membership
from server.core.membership.cleanup import Cleanup
from server.core.membership.membership import Membership
from server.core.membership.transfers import Transfers
from server.core.ring.computation import Computation
from server.core.ring.layout import Layout
from tests.sim.plants import Patch, Plant

GENTLY = ("join", "leave", "replace")
HARD = ("join", "leave", "remove", "replace", "split")


def _let_go_unasked(patch: Patch) -> None:
    def confirm(
        self: Cleanup, layout: Layout, keepers: Sequence[str], batch: dict[bytes, bytes]
    ) -> Generator[Any, Any, dict[bytes, bytes]]:
        yield self._background.sleep(1)
        return batch

    patch(Cleanup, "_confirm", confirm)


def _be_whole_at_once(patch: Patch) -> None:
    patch(Transfers, "_is_whole", lambda self: True)


def _drop_copies_before_they_are_fetched(patch: Patch) -> None:
    _be_whole_at_once(patch)
    _let_go_unasked(patch)


def _write_to_the_readers_only(patch: Patch) -> None:
    patch(Layout, "keepers", Layout.readers)


def _read_from_the_new_at_once(patch: Patch) -> None:
    patch(Layout, "readers", lambda self, partition: self.owners[partition])


def _count_both_rows_as_one(patch: Patch) -> None:
    patch(Plan, "tally", lambda self, wanted: Tally(self.replicas, min(wanted, self.replicas)))


def _keep_the_winner_only(patch: Patch) -> None:
    def merged(one: Layout, other: Layout) -> Computation[Layout]:
        yield 1
        return one if one.wins_over(other) else other

    patch(membership, "merged", merged)


def _go_back(patch: Patch) -> None:
    def merged(one: Layout, other: Layout) -> Computation[Layout]:
        yield 1
        return other

    patch(membership, "merged", merged)


def _listen_to_the_removed(patch: Patch) -> None:
    adopt = State.adopt

    def adopt_and_remember(self: State, layout: Layout) -> None:
        before = self.members
        adopt(self, layout)
        self.members |= before

    patch(State, "adopt", adopt_and_remember)
    patch(Membership, "refusal", lambda self, peer, cluster, version=(): "")


RING_PLANTS: Sequence[Plant] = (
    Plant("let go unasked", _let_go_unasked, "never had what their former owner let go", ("cut", "kill"), ring=HARD),
    Plant("be whole at once", _be_whole_at_once, "expected", ring=GENTLY),
    Plant(
        "drop copies before they are fetched",
        _drop_copies_before_they_are_fetched,
        "never had what their former owner let go",
        ("cut", "kill", "slow path"),
        nodes=5,
        ring=("n",),
    ),
    Plant("write to the former owners only", _write_to_the_readers_only, "expected", ring=GENTLY),
    Plant("read from the new owners at once", _read_from_the_new_at_once, "expected", ring=GENTLY),
    Plant(
        "count both rows as one", _count_both_rows_as_one, "no quorum of both rows", ("slow path", "cut"), ring=GENTLY
    ),
    Plant("keep the winner only", _keep_the_winner_only, "does not converge", ("cut",), ring=HARD),
    Plant("go back to an older layout", _go_back, "went from layout", ("cut",), ring=HARD),
    Plant(
        "listen to the removed",
        _listen_to_the_removed,
        "does not know it",
        ("kill", "isolate"),
        nodes=5,
        ring=("remove",),
    ),
)
