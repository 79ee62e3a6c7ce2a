"""Who keeps the drafts of a step, for the commands that change them one after the other.

The commands of a transaction or a script run on a snapshot (commands/transactions/snapshot.py). What one of them has
changed stays a draft there, which the next one changes, and becomes a record once. Commands find the keeper as
`Writes.keeper`, and without one their changes are written at once. commands/transactions/kept_drafts.py has it, and why.
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
