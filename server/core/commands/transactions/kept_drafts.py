"""Drafts that the commands of an atomic run share: a key is decoded once for all of them, and its record is made once.

The problem. To make the record of a list of 100,000 items costs 3 ms, as all of it is copied. A transaction of 300 pushes
made 300 of them, a script a thousand, and the node served nobody else meanwhile.

The idea. What a command has changed stays a draft. The next command changes it further, or reads it, and the record is made

    when the run ends                             for all drafts, in slices (`settle`)
    when a command needs the record itself        as most commands do that go through all of a large key
    after many changes                            to find the changes of a field costs more the more there are
    when the key is gone                          the next command begins a new one, perhaps of another type
    when it might become too large                so that the command that makes it so gets the error

That is what commands of several clients do within a turn (shared_drafts.py), with one difference: here each is answered at
once, as the run is stored whole or not at all. So whatever may refuse a draft is looked at before the command is answered.

A command needs the record if it reads it by `Records.get`: then the draft is made by the way, since it is a pending record
(records/pending.py) while a command runs that shows its key.

Failures. A command that answers an error has changed no kept draft: the functions that may change one raise CommandError
before they change anything. A draft that the failing command itself has begun is dropped, and the record before it is still
there. Only the command that the transaction has called changes a kept draft in place. A step of that command (the SADD of a
SMOVE) makes the record first and begins a draft of its own, since the next step may fail. An exception that nobody expects
may leave a part of the changes in a draft. Then nothing of the run is stored.

While keyspace events are wanted no draft is kept: each event depends on the record before and after its command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.draft_writes import check_writable, record_of
from server.core.commands.shared_drafts import added_bytes_max, is_full
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.records.pending import Pending
from server.core.records.records import storage_key_of
from server.core.records.slicing import Slices, run_through
from server.core.records.views import View
from server.core.requests.draft_table import DraftTable
from server.core.services.services import Services

_BROKEN: Final = "ERR internal error in one of the commands: nothing was written"
_SETTLED_BYTES_MAX: Final = 8 << 20  # of records that are made in one turn
Store = Callable[
    [bytes, bytes, bool, bool], None
]  # storage key, record, whether it only removes, whether it can be undone


class KeptDraft(Pending):
    """The draft of one key, and what is to be known when its record is made."""

    def __init__(self, old: bytes | None, key: bytes, draft: Draft, deletes: bool, drafts: KeptDrafts) -> None:
        super().__init__(old)
        self.key = key
        self.draft = draft
        self.deletes = deletes
        self.size_max = len(old or b"") + draft.size_max()  # that the record has at most
        self._drafts = drafts

    def make(self) -> None:
        """Makes the record, which becomes that of the snapshot."""
        self._drafts.make(self)

    def includes(self, record: bytes | None) -> bool:
        """Whatever a quorum holds was read before the run began."""
        return True

    def view(self) -> View:
        """The key as the commands so far have left it."""
        return self.draft


class KeptDrafts(DraftTable):
    """The drafts of one atomic run. `store` takes the records that are made of them."""

    def __init__(self, services: Services, owns: Callable[[Sink], bool], store: Store) -> None:
        """`owns`: whether a sink is that of a command which the run has called."""
        self._services = services
        self._pending = services.state.records.pending
        self._owns = owns
        self._store = store
        self.by_key: dict[bytes, KeptDraft] = {}  # by storage key
        self._fresh: dict[bytes, None] = {}  # those that the command which runs has begun
        self._failure: CommandError | None = None

    # --- for commands

    def draft_for(self, sink: Sink, args: list[bytes]) -> Draft | None:
        """Returns the draft of the key in the first argument, if there is room in its record for what the command adds."""
        kept = self.by_key.get(storage_key_of(args[1])) if self.by_key and self._owns(sink) else None
        state = self._services.state
        if kept is None or kept.size_max + added_bytes_max(args) > state.config.record_bytes_max:
            return None
        if kept.draft.is_plain() and state.readers.missing(
            state.layout
        ):  # the command may make it what some cannot read
            return None
        return kept.draft

    def changed(self, args: list[bytes], deletes: bool) -> None:
        """A command has changed a draft."""
        storage_key = storage_key_of(args[1])
        kept = self.by_key[storage_key]
        kept.deletes = kept.deletes and deletes
        if kept.draft.key_type == STRING:
            kept.size_max = len(kept.old or b"") + kept.draft.size_max()  # SETBIT adds more than its arguments
        else:
            kept.size_max += added_bytes_max(args)
        if is_full(kept.draft) or kept.size_max > self._services.state.config.record_bytes_max:
            self._pending.make([storage_key])

    def fail(self) -> None:
        """A draft has a part of a command's changes."""
        self._failure = CommandError(_BROKEN)

    def keep(self, key: bytes, draft: Draft, deletes: bool) -> bool:
        """Keeps a draft that a command has changed."""
        state = self._services.state
        if state.noted is not None or is_full(draft):
            return False
        storage_key = storage_key_of(key)
        kept = KeptDraft(state.records.get(storage_key), key, draft, deletes, self)
        if kept.size_max > state.config.record_bytes_max:
            return False
        check_writable(self._services, key, draft)
        self.by_key[storage_key] = kept
        self._fresh[storage_key] = None
        self._pending.add(storage_key, kept)
        return True

    # --- for the snapshot

    def begin_command(self) -> None:
        """A command begins: what the one before has begun is not dropped any more."""
        self._fresh.clear()

    def drop_fresh(self) -> None:
        """The command has failed: the drafts that it has begun are dropped."""
        for storage_key in self._fresh:
            self.by_key.pop(storage_key, None)

    def show(self, storage_keys: Sequence[bytes]) -> None:
        """Makes drafts of these keys pending records, for as long as a command runs."""
        for storage_key in storage_keys:
            kept = self.by_key.get(storage_key)
            if kept is not None:
                self._pending.add(storage_key, kept)

    def hide(self, storage_keys: Sequence[bytes]) -> None:
        """Ends `show`."""
        for storage_key in storage_keys:
            if storage_key in self._pending.by_key:
                self._pending.drop(storage_key)

    def check(self) -> None:
        """Raises CommandError if nothing of the run may be stored."""
        if self._failure is not None:
            raise self._failure

    def make(self, kept: KeptDraft) -> None:
        """Makes the record of a draft."""
        storage_key = storage_key_of(kept.key)
        try:
            record = run_through(record_of(self._services, kept.key, kept.draft, kept.deletes))
        except Exception as error:  # the commands that have changed it were answered
            self._failure = error if isinstance(error, CommandError) else CommandError(_BROKEN)
            raise
        del self.by_key[storage_key]
        self._store(storage_key, record, kept.deletes, storage_key in self._fresh)

    def settle(self) -> Slices[None]:
        """Makes the records of all drafts, at the end of the run."""
        made_bytes = 0
        for storage_key, kept in list(self.by_key.items()):
            if made_bytes > _SETTLED_BYTES_MAX:
                yield
                made_bytes = 0
            record = yield from record_of(self._services, kept.key, kept.draft, kept.deletes)
            made_bytes += len(record)
            self._store(storage_key, record, kept.deletes, False)
        self.by_key.clear()
