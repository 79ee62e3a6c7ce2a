"""Staged changes: what operators want of the next layout, gathered at all nodes until one of them commits it.

Theory. A change of members moves data, so it is looked at before it is made: each command only *stages* its change, a plan
shows what all of them together would move, and a commit names the epoch that the plan was for. Nothing here is a
decision: staged changes are a set that only grows, of ids, and so are the aborted ones among them. Two nodes that meet
take the union of both, in whatever order they hear of them, and so all come to hold the same.

A set belongs to the epoch of one layout. Once that has risen, by whomever, it is void: what was planned was planned for
owners that are no more. An id begins with a reading of the hybrid clock, so that the changes have one order everywhere,
and one that was staged on top of another comes after it.

A change that sets what an earlier one has set (R, or the weight of a node) supersedes it. Then plan, status and commit have
the later one alone.

A plan has a digest of what was staged when it was shown. A commit that names the digest makes exactly that plan. Operators
of earlier versions name the epoch alone. For them the nodes remember, in the same set, the digests of all plans that were
shown: if what is staged now was never shown, something was staged after the last plan, and the commit is refused. A commit
for which no plan was asked since the last abort is taken.

The layout that all of them make is computed over many turns (work/computing.py), and once: a commit takes the one that the
plan has shown, unless the present layout or what is staged has changed since.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from xxhash import xxh3_64_hexdigest

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.announcements import Staged, staged_document, staged_in
from server.core.messages.stored import stored
from server.core.ring.change import Change, without_superseded
from server.core.ring.layout import Layout
from server.core.ring.layout_faults import name_faults
from server.core.ring.succession import ChangeError, check, committed
from server.core.work.computing import Computing
from server.core.work.procedures import Step

STAGED_MAX = 256
_ABORTED_MAX = 4096  # ids; beyond it the oldest are forgotten, which all nodes know by then
_SHOWN_MAX = 256  # digests of plans
_DOCUMENT = b"staged"

Wanted = tuple[str, str, dict[str, Any]]  # a change to stage: its kind, its node, its further fields


class Staging:
    """The staged changes that this node knows of."""

    def __init__(self, state: State, computing: Computing) -> None:
        self._state = state
        self._computing = computing
        self._following: tuple[Layout, list[Change], Layout] | None = (
            None  # the present one, the changes, what they make
        )
        self._epoch = 0
        self._changes: dict[str, Change] = {}  # by id, without the aborted ones
        self._aborted: dict[str, None] = {}
        self._shown: dict[str, None] = {}  # digests of what was staged when plans were shown
        self._encoded: bytes | None = None
        nothing = Staged(0, [], [])
        known = stored(state.records, _DOCUMENT, staged_in, nothing, nothing)
        self._epoch = known.epoch
        self._unite(known)

    def changes(self) -> list[Change]:
        """What is staged on top of the present layout, in order, without what a later change supersedes."""
        return without_superseded(self._all_changes())

    def _all_changes(self) -> list[Change]:
        layout = self._state.layout
        if layout is None or self._epoch != layout.epoch:
            return []
        return list(self._changes.values())

    def stage(self, layout: Layout, kind: str, node: str, **fields: Any) -> Change:
        """Stages a change of the present layout. Raises ChangeError if it cannot be made after those that are staged."""
        return self.stage_all(layout, [(kind, node, fields)])[0]

    def stage_all(self, layout: Layout, wanted: Sequence[Wanted]) -> list[Change]:
        """Stages changes that need each other. Raises ChangeError if they cannot be made after those that are staged."""
        staged = self._all_changes()
        if len(staged) + len(wanted) > STAGED_MAX:
            raise ChangeError(f"{STAGED_MAX} changes are staged already: commit them first, or abort them")
        changes = [self._change(kind, node, fields) for kind, node, fields in wanted]
        check(layout, [*staged, *changes])
        for change in changes:
            try:
                Change.decode(change.encode())
            except ValueError as error:  # the other nodes would refuse it in the same way, and close the link
                raise ChangeError(str(error)) from error
        self._begin(layout)
        self._unite(Staged(layout.epoch, changes, []))
        self._save()
        return changes

    def _change(self, kind: str, node: str, fields: dict[str, Any]) -> Change:
        """Makes a change with an id of its own. Raises ChangeError if it is about a name that no node may have."""
        state = self._state
        change = Change(f"{state.clock.next():016x}-{state.rng.getrandbits(40):010x}", kind, node, **fields)
        if change.name:
            for fault in name_faults(change.other or change.node, change.name):
                raise ChangeError(fault)
        return change

    def abort(self, layout: Layout) -> int:
        """Takes back all that is staged; how many changes that were."""
        count, staged = len(self.changes()), self._all_changes()
        self._begin(layout)
        self._unite(Staged(layout.epoch, [], [change.id for change in staged]))
        self._save()
        return count

    def show(self, layout: Layout, changes: Sequence[Change]) -> bool:
        """Remembers that a plan with these changes of the present layout was shown. Returns whether that is news."""
        if self._state.room == FOR_NOTHING or not changes:
            return False
        self._begin(layout)
        is_news = self._unite(Staged(layout.epoch, [], [], [digest(layout, changes)]))
        if is_news:
            self._save()
        return is_news

    def is_unseen(self, layout: Layout, changes: Sequence[Change]) -> bool:
        """Whether plans for this layout were shown, but none with exactly these changes."""
        return self._epoch == layout.epoch and bool(self._shown) and digest(layout, changes) not in self._shown

    def following(self, present: Layout, changes: list[Change]) -> Generator[Step, Any, Layout]:
        """The layout that these changes make of the present one, computed if it was not the last one that was asked for:
        `layout = yield from staging.following(present, changes)`. Raises ChangeError if they cannot be made."""
        known = self._following
        if known is not None and known[0] is present and known[1] == changes:
            return known[2]
        layout = yield from self._computing.run(committed(present, changes))
        self._following = (present, changes, layout)
        return layout

    # --- between nodes

    def content(self) -> Staged | None:
        """Returns all that is known of the present epoch's changes; None if that is nothing."""
        layout = self._state.layout
        if layout is None or self._epoch != layout.epoch or not (self._changes or self._aborted):
            return None
        return self._content()

    def document(self) -> bytes | None:
        """Returns the encoded `content`, or None."""
        if self.content() is None:
            return None
        if self._encoded is None:
            self._encoded = self._encode()
        return self._encoded

    def merge(self, staged: Staged) -> None:
        """Merges another node's document. One of another epoch is old, or early: then it comes again after the layout."""
        layout = self._state.layout
        if layout is None or staged.epoch != layout.epoch or self._state.room == FOR_NOTHING:
            return
        self._begin(layout)
        if self._unite(staged):
            self._save()

    def asked(self, staged: Staged) -> bool:
        """Answers STAGED: merges the document, and acknowledges it."""
        self.merge(staged)
        return True

    # --- the sets

    def _begin(self, layout: Layout) -> None:
        """What was staged for another epoch is void."""
        if self._epoch != layout.epoch:
            self._epoch = layout.epoch
            self._changes, self._aborted, self._shown = {}, {}, {}
            self._encoded = None

    def _unite(self, staged: Staged) -> bool:
        """Whether that was news."""
        new_ids = [name for name in staged.aborted if name not in self._aborted]
        self._aborted |= dict.fromkeys(new_ids)
        if new_ids:
            self._shown = {}  # whoever has seen these plans knows that they are void
        if len(self._aborted) > _ABORTED_MAX:
            self._aborted = dict.fromkeys(sorted(self._aborted)[-_ABORTED_MAX:])
        new = [change for change in staged.changes if change.id not in self._changes and change.id not in self._aborted]
        new_digests = [name for name in staged.shown if name not in self._shown][: _SHOWN_MAX - len(self._shown)]
        self._shown |= dict.fromkeys(new_digests)
        if not new and not new_ids and not new_digests:
            return False
        known = self._changes | {change.id: change for change in new}
        self._changes = {name: known[name] for name in sorted(known) if name not in self._aborted}
        return True

    def _encode(self) -> bytes:
        return staged_document(self._content())

    def _content(self) -> Staged:
        return Staged(self._epoch, list(self._changes.values()), list(self._aborted), list(self._shown))

    def _save(self) -> None:
        self._encoded = None
        self._state.records.put_document(_DOCUMENT, self._encode())


def digest(layout: Layout, changes: Sequence[Change]) -> str:
    """The digest of a plan: of the epoch that it is made on, and of the ids of its changes."""
    words = (str(layout.epoch), *(change.id for change in changes))
    return xxh3_64_hexdigest(" ".join(words).encode())
