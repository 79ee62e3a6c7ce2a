"""The coordinator's side of patches: of large records, only what changes is sent to the owners that hold the former record.

Theory. A write group keeps the former record of each large record that it writes. When it is sent, these two make a patch
(records/patches.py), and the owners that have announced the capability get a PATCH instead of a STORE. A patch is sent
without knowing what the owner holds: nearly always it is the former record, as that was sent before on the same connection,
and the owner alone can tell.

    the owner holds                         it answers             then it gets
    the base of the patch                   STORED                 nothing more
    a record whose clock covers the         STORED                 nothing more
    result's: it has the write already
    another record, none, a damaged one     UNFIT                  the present record whole, in a STORE of the same number

So an acknowledgement means what it always means: the owner has stored the record, whole or as a base and patches
(records/deferred.py). Hints, read repair, anti-entropy and
transfers send whole records. So do groups to a stand-in, which never holds the former record.

Order. A patch does not overtake the large messages before it (State.send_behind): else it would come before the record that
it applies to whenever that travels in pieces. When an owner is behind, more patches are on their way to it, and none of
them fits. One whole record is enough for all: once it was sent, a group from before is answered by its patch once more.
This comes behind the whole record, whose clock covers its result. If it does not fit either, the whole record was lost, and
is sent again.

Nor does a COMPARE overtake a patch or a large record of its key (`State.sent_behind`, reads.py): the owner would differ,
and answer with its whole record.
"""

from __future__ import annotations

from server.core.base.state import State
from server.core.messages.kinds import encode_patch, encode_store
from server.core.records.versions import DamagedRecord
from server.core.requests.write_groups import WriteGroup

_REMEMBERED_MAX = 10_000  # whole records sent lately


class Patching:
    """Makes and sends the patches of write groups, and what an owner gets that cannot use them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._large_bytes = state.config.large_message_bytes // 2  # a group of this size may travel in pieces
        self._whole: dict[
            tuple[str, bytes], int
        ] = {}  # owner and key -> when (`State.number`) its record was sent whole

    def begin(self, group: WriteGroup) -> bytes:
        """HOT. A group is about to be sent. Returns its PATCH; empty if no record of it has a patch."""
        patch = self._patch(group) if group.bases and group.waiters else b""
        if patch or group.size_bytes >= self._large_bytes:
            sent_behind = self._state.sent_behind
            group.is_behind = True
            for key in group.payload[::2]:
                sent_behind[key] = sent_behind.get(key, 0) + 1
        return patch

    def settle(self, group: WriteGroup) -> None:
        """HOT. Every owner has confirmed the group, or has got a hint instead."""
        sent_behind = self._state.sent_behind
        for key in group.payload[::2] if group.is_behind else ():
            sent_behind[key] -= 1
            if not sent_behind[key]:
                del sent_behind[key]

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
        """Sends a PATCH to an owner. Returns False if it has not announced that it takes patches."""
        state = self._state
        if owner not in state.patching:
            return False
        state.send_behind(owner, message)
        state.statistics.patches_sent += 1
        state.statistics.patch_bytes_sent += len(message)
        return True

    def unfit(self, group: WriteGroup, owner: str) -> None:
        """The owner cannot use the patches of a group: sends it the present records whole, or the patches behind them."""
        state, whole = self._state, self._whole
        state.statistics.patches_unfit += 1
        keys = group.payload[::2]
        sent_since = all(whole.get((owner, key), -1) > group.number for key in keys)
        if sent_since and group.patched is not None and owner not in group.sent_again:
            group.sent_again += (owner,)
            self.send(owner, encode_patch(state.clock_reading(), group.number, group.patched))
            return
        pairs: list[bytes] = []
        number = state.number()
        if len(whole) >= _REMEMBERED_MAX:
            whole.clear()
        for key, record in zip(keys, group.payload[1::2], strict=True):
            pairs += (key, self._present(key) or record)
            whole[owner, key] = number
        state.send(owner, encode_store(state.clock_reading(), group.number, pairs))

    def _present(self, key: bytes) -> bytes | None:
        """Returns the record that is stored here by now: it includes that of the group, if it is still here."""
        try:
            return self._state.records.get(key)
        except DamagedRecord:
            return None
