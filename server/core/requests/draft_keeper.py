"""The interface of the keeper of drafts in a step: the run of a transaction or a script (slot_step.py).

The commands of a step run on a snapshot (commands/transactions/snapshot.py). The changes that one of them makes to a key
stay a draft, the next ones change that draft further, and its record is made once. Commands find the keeper in
`Writes.keeper`, which is None outside a step. commands/transactions/kept_drafts.py implements it, and says why.
"""

from __future__ import annotations

from server.core.base.sinks import Sink
from server.core.records.draft import Draft


class DraftKeeper:
    """Keeps drafts by key, for the commands of one step."""

    def draft_for(self, sink: Sink, args: list[bytes]) -> Draft | None:
        """Returns the draft of the key in the first argument; None if none is kept that the command may change. A command
        that has changed it calls `changed`, or `fail` if it has ended half way."""
        raise NotImplementedError

    def changed(self, args: list[bytes], deletes: bool) -> None:
        """A command has changed the draft that `draft_for` gave it. `deletes`: it only removes."""
        raise NotImplementedError

    def fail(self) -> None:
        """A draft may have a part of the changes of a command: nothing of the step may be stored."""
        raise NotImplementedError

    def keep(self, key: bytes, draft: Draft, deletes: bool) -> bool:
        """Keeps a draft that a command has changed; False if its record must be made at once. Raises CommandError if it
        must not be written."""
        raise NotImplementedError
