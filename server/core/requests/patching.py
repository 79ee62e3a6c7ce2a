"""The coordinator's side of patches: owners that hold the former version of a large record are sent only what changes.

Theory. A write group keeps the former version of each large record that it writes. When the group is sent, a patch is
computed from both versions (records/patches.py). The owners that have announced the capability get a PATCH instead of a
STORE. A group without waiters (all its writes are covered, writes.py) is always sent whole, in a KEEP. The coordinator
does not know which version an owner holds. Nearly always it is the former version, because that was sent before on the
same connection. The owner checks that, and answers:

    the owner holds                         it answers             then it gets
    the base of the patch                   STORED                 nothing more
    a record whose clock covers the         STORED                 nothing more
    result's: it has the write already
    another record, none, a damaged one     UNFIT                  the present record whole, in a STORE of this group

So an acknowledgement means the same as always: the owner has stored the record, either whole or as a base and patches
(records/deferred.py). Hints, read repair, anti-entropy and transfers send whole records. Stand-ins get whole records, too,
because they do not hold the former version.

Order. A patch does not overtake the large messages before it (State.send_behind). Otherwise a patch would arrive before its
base whenever the base travels in pieces.

Several UNFITs. If an owner lacks a base, it cannot apply any of the patches that are on their way. One whole record is
enough for all of them. The coordinator answers the first UNFIT with the whole record. It may get further UNFITs, for
groups that it had sent before the whole record. It answers those with the patches of the same group, a second time. They
arrive after the whole record, and the clock of that record covers their results, so the owner answers STORED. If the
owner answers UNFIT to the second sending, too, the whole record was lost, and the coordinator sends it again.

A COMPARE does not overtake a patch or a large record of its key either (`State.slow_writes`, reads.py). Otherwise the owner
would find a difference, and answer with its whole record.
"""

from __future__ import annotations

from server.core.base.state import State
from server.core.messages.kinds import encode_patch, encode_store
from server.core.records.versions import DamagedRecord
from server.core.requests.write_groups import WriteGroup

_REMEMBERED_MAX = 10_000  # whole records that were sent after UNFIT


class Patching:
    """Makes and sends the patches of write groups, and answers owners that cannot use them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._large_bytes = state.config.large_message_bytes // 2  # a group of this size may travel in pieces
        # (owner, storage key) -> a group number that was drawn when the whole record was sent: older groups have smaller
        # numbers.
        self._whole: dict[tuple[str, bytes], int] = {}

    def begin(self, group: WriteGroup) -> bytes:
        """HOT. Prepares a group that is about to be sent. Returns its PATCH message; empty if it has no patches."""
        patch = self._patch(group) if group.bases and group.waiters else b""
        if patch or group.size_bytes >= self._large_bytes:
            slow_writes = self._state.slow_writes
            group.is_behind = True
            for key in group.payload[::2]:
                slow_writes[key] = slow_writes.get(key, 0) + 1
        return patch

    def settle(self, group: WriteGroup) -> None:
        """HOT. Counts down the keys of a closed group in `slow_writes`, and removes those that no other open group has."""
        slow_writes = self._state.slow_writes
        for key in group.payload[::2] if group.is_behind else ():
            slow_writes[key] -= 1
            if not slow_writes[key]:
                del slow_writes[key]

    def _patch(self, group: WriteGroup) -> bytes:
        patched, patches = list(group.payload), self._state.records.patches
        for index, base in group.bases.items():
            patched[index] = patches.of(patched[index - 1], base, patched[index]) or patched[index]
        group.bases.clear()
        if all(one is other for one, other in zip(patched[1::2], group.payload[1::2], strict=True)):
            return b""
        group.patched = patched
        return encode_patch(self._state.clock_reading(), group.number, patched)

    def send(self, owner: str, message: bytes) -> bool:
        """Sends a PATCH to an owner. Returns False if the owner has not announced that it accepts patches."""
        state = self._state
        if owner not in state.patching:
            return False
        state.send_behind(owner, message)
        state.statistics.patches_sent += 1
        state.statistics.patch_bytes_sent += len(message)
        return True

    def unfit(self, group: WriteGroup, owner: str) -> None:
        """Handles UNFIT: sends the present records whole. But if whole records of all keys have been sent to `owner` since
        the group was sent, it sends the group's patches a second time instead, once for each owner."""
        state, whole = self._state, self._whole
        state.statistics.patches_unfit += 1
        keys = group.payload[::2]
        sent_since = all(whole.get((owner, key), -1) > group.number for key in keys)
        if sent_since and group.patched is not None and owner not in group.sent_again:
            group.sent_again += (owner,)
            self.send(owner, encode_patch(state.clock_reading(), group.number, group.patched))
            return
        pairs: list[bytes] = []
        number = state.next_number()
        if len(whole) >= _REMEMBERED_MAX:
            whole.clear()
        for key, record in zip(keys, group.payload[1::2], strict=True):
            pairs += (key, self._present(key) or record)
            whole[owner, key] = number
        state.send(owner, encode_store(state.clock_reading(), group.number, pairs))

    def _present(self, key: bytes) -> bytes | None:
        """Returns the record that is stored here now, if there is one: it includes the record of the group."""
        try:
            return self._state.records.get(key)
        except DamagedRecord:
            return None
