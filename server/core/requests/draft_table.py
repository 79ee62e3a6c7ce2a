"""The interface of the table of drafts in an atomic run, which is a transaction or a script on keys of one slot.

The commands of an atomic run do not change the stored records but a snapshot of them (transactions/snapshot.py). A change
that one of them makes to a key stays a draft. The next commands change that draft further, and its record is made once.
Commands find the table in `Writes.draft_table`, which is None outside an atomic run. The class that implements it is in
commands/transactions/kept_drafts.py, which also gives the reasons.
"""

from __future__ import annotations

from server.core.base.sinks import Sink
from server.core.records.draft import Draft


class DraftTable:
    """The drafts by key, for the commands of one atomic run."""

    def draft_for(self, sink: Sink, args: list[bytes]) -> Draft | None:
        """Returns the draft of the key in the first argument; None if there is none that the command may change.

        A command that has changed the draft calls `changed`. A command that has ended half way calls `fail`.
        """
        raise NotImplementedError

    def changed(self, args: list[bytes], deletes: bool) -> None:
        """A command has changed the draft that `draft_for` gave it. `deletes`: it has only removed something."""
        raise NotImplementedError

    def fail(self) -> None:
        """A draft may have a part of the changes of a command: nothing of the atomic run may be stored."""
        raise NotImplementedError

    def keep(self, key: bytes, draft: Draft, deletes: bool) -> bool:
        """Keeps a draft that a command has changed. Returns False if its record must be made at once. Raises CommandError
        if the draft must not be written."""
        raise NotImplementedError
