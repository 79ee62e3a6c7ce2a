"""The interface of the table of drafts in an atomic run, which is a transaction or a script on keys of one slot.

The commands of an atomic run change a snapshot of the stored records, and not the records themselves
(transactions/snapshot.py). When a command changes a key, the changed value is kept as a *draft*: its record is not made
yet. The next commands change the same draft. Its record is made when one of them needs it, and at the latest at the end
of the run. Commands find the table in `Writes.draft_table`, which is None outside an atomic run. The class that
implements it is in commands/transactions/kept_drafts.py, which also gives the reasons.
"""

from __future__ import annotations

from server.core.base.sinks import Sink
from server.core.records.draft import Draft


class DraftTable:
    """The drafts by key, for the commands of one atomic run."""

    def draft_for(self, sink: Sink, args: list[bytes]) -> Draft | None:
        """Returns the draft of key `args[1]`; None if there is no draft, or if the command must not change it.

        A command that has changed the draft calls `changed`. One that stops after only a part of its change calls `fail`.
        """
        raise NotImplementedError

    def changed(self, args: list[bytes], deletes: bool) -> None:
        """Notes a change of the draft that `draft_for` has returned. `deletes`: the command has only removed something."""
        raise NotImplementedError

    def fail(self) -> None:
        """Notes that a draft perhaps holds only a part of a command's change. Nothing of the atomic run is stored then."""
        raise NotImplementedError

    def keep(self, key: bytes, draft: Draft, deletes: bool) -> bool:
        """Keeps a draft that a command has changed. Returns False if its record must be made at once. Raises CommandError
        if the draft must not be written."""
        raise NotImplementedError
