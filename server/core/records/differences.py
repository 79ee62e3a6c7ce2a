"""Which fields differ between two records of a key, found without decoding what is equal.

Theory. The borders of chunks depend on the content only (entries.py): a change of one field changes its chunk, and the
chunks before and behind it are the same bytes at other places. So equal chunks are skipped, a block of them in one
comparison (patches.py), and what lies between is decoded.

Records with what is hidden, expires or is opaque are not compared: what they show depends on the time.
"""

from __future__ import annotations

from typing import Final

from server.core.records.kinds import EXPIRY_MARK, OPAQUE_MARKS
from server.core.records.patches import differing
from server.core.records.views import View

Fields = dict[bytes, bytes]  # field -> payload
_CHUNKS_MAX: Final = 256  # that are decoded of each record: about 16,000 fields


def changed_fields(before: View, after: View, fields_max: int) -> tuple[Fields, Fields] | None:
    """Returns the fields with their payloads that only the first view has, and those that only the second one has.

    A field whose payload has changed is in both. None if they cannot be compared, or there are more than `fields_max`.
    """
    if before.base == after.base:
        return {}, {}
    if not _is_plain(before) or not _is_plain(after) or before.key_type != after.key_type:
        return None
    stretches = differing(before.index(), after.index())
    if sum([max(end - first, new_end - new_first) for first, end, new_first, new_end in stretches]) > _CHUNKS_MAX:
        return None
    old: Fields = {}
    new: Fields = {}
    for first, end, new_first, new_end in stretches:
        old |= _decoded(before, first, end)
        new |= _decoded(after, new_first, new_end)
    gone = {field: payload for field, payload in old.items() if new.get(field) != payload}
    added = {field: payload for field, payload in new.items() if old.get(field) != payload}
    return (gone, added) if max(len(gone), len(added)) <= fields_max else None


def _is_plain(view: View) -> bool:
    return view.chunks() > 0 and not view.hides and not view.marks & (EXPIRY_MARK | OPAQUE_MARKS)


def _decoded(view: View, first: int, end: int) -> Fields:
    return {field: payload for chunk in range(first, end) for field, payload in view.items_in(chunk)}
