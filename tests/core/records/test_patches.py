"""Patches: applied to their base they make the result, byte for byte, and nothing else comes of them."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from server.core.records import patches
from server.core.records.draft import Draft
from server.core.records.entries import Entry, Index, clock_of, decode, encode, is_border
from server.core.records.entry_structure import is_sound, is_sound_after
from server.core.records.kinds import HASH, HASH_DELTA, HASH_FIELD, LIST, LIST_ITEM, SET_ELEMENT
from server.core.records.patches import (
    Patches,
    apply,
    apply_all,
    base_of,
    clock_of_result,
    differing,
    is_patch,
    make,
    makes,
    result_of,
    splices_of,
    verify_patch,
)
from server.core.records.structure import has_checksum, verify
from server.core.records.versions import merge, supersede

A, B = b"actor-a.", b"actor-b."


def dot(actor: bytes, counter: int) -> bytes:
    """The bytes of a dot."""
    return actor + struct.pack(">Q", counter)


class History(NamedTuple):
    """Two records that follow each other."""

    base: bytes
    result: bytes
    changes: int

    def __repr__(self) -> str:
        return f"{len(self.base)} to {len(self.result)} bytes by {self.changes} changes"


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A record of up to some hundred fields, and the same after some of them were changed, added and removed."""
    count = draw(st.integers(1, 400))
    sizes = st.integers(0, 30)
    fields = {b"f%d" % number: (number * 7) % 40 for number in range(count)}
    before = encode({A: 5}, [(field, HASH_FIELD, dot(A, 5), 0, b"v" * size) for field, size in fields.items()])
    entries: dict[bytes, Entry] = {entry[0]: entry for entry in decode(before)[1]}
    actor, counter = draw(st.sampled_from([(A, 9), (B, 9), (b"actor-0.", 9)]))
    names = st.integers(0, count + 20).map(lambda number: b"f%d" % number)
    changes = draw(st.dictionaries(names, sizes, min_size=1, max_size=8))
    for name, size in changes.items():
        if draw(st.booleans()) and name in entries and len(entries) > 1:
            del entries[name]
        else:
            entries[name] = (name, HASH_FIELD, dot(actor, counter), draw(st.sampled_from((0, 0, 77))), b"w" * size)
    return History(before, encode({A: 5} | {actor: counter}, list(entries.values())), len(changes))


@given(histories())
def test_a_patch_makes_the_result_of_its_base(records: History) -> None:
    base, result, changes = records
    patch = make(base, result)
    if patch is None:
        assert changes > 1 or len(result) < 1000
        return
    assert is_patch(patch) and verify_patch(patch) and not verify(patch)
    assert (base_of(patch), result_of(patch)) == (base[:8], result[:8])
    assert clock_of_result(patch) == clock_of(result)
    made = apply(base, patch)
    assert made == result == apply_all(base, [patch])
    assert is_sound_after(result, base)
    assert merge(base, result) is result, "it dominates its base"


@given(histories(), st.data())
def test_a_wrong_byte_is_refused(records: History, data: st.DataObject) -> None:
    base, result, _ = records
    patch = make(base, result)
    if patch is not None:
        place = data.draw(st.integers(0, len(patch) - 1))
        wrong = patch[:place] + bytes([patch[place] ^ 1 << data.draw(st.integers(0, 7))]) + patch[place + 1 :]
        assert not verify_patch(wrong)
        sealed = xxh3_64_digest(wrong[8:]) + wrong[8:]
        if place >= 12 and verify_patch(sealed):  # whoever made it made it wrongly
            made = apply(base, sealed)
            assert made is None or made == result, "only the clock that it tells may differ"


@given(histories(), st.integers(0, 7))
def test_a_comparison_finds_what_an_application_finds(records: History, bit: int) -> None:
    """Whichever byte of the patch is wrong, though its own checksum is right. Nothing wrong passes the comparison."""
    base, result, _ = records
    patch = make(base, result)
    if patch is None:
        return
    assert makes(base, patch, result)
    assert not makes(result, patch, base) and not makes(base, patch, base) and not makes(result, patch, result)
    assert not makes(base, patch, result + b"\0") and not makes(base, patch, result[:-1])
    for place in range(8, len(patch)):
        wrong = patch[8:place] + bytes([patch[place] ^ 1 << bit]) + patch[place + 1 :]
        sealed = xxh3_64_digest(wrong) + wrong
        is_right = (
            verify_patch(sealed) and apply(base, sealed) == result and clock_of_result(sealed) == clock_of(result)
        )
        assert makes(base, sealed, result) == is_right, place
        assert not makes(base, patch[:8] + wrong, result), place


@pytest.mark.interpreted
def test_a_record_whose_patch_was_made_wrongly_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    base, result = large(5), large(6)
    right = make(base, result)
    assert right is not None and Patches().of(b"key", base, result) == right
    wrong = right[8:-1] + bytes([right[-1] ^ 1])
    wrong = xxh3_64_digest(wrong) + wrong
    assert verify_patch(wrong) and apply(base, wrong) is None
    monkeypatch.setattr(patches, "make", lambda base, result: wrong)
    made = Patches()
    assert made.of(b"key", base, result) is None and made.of(b"key", base, result) is None


def test_another_base_is_refused() -> None:
    records = [large(counter) for counter in (5, 6, 7)]
    patch = make(records[0], records[1])
    assert patch is not None
    assert apply(records[1], patch) is None and apply(records[2], patch) is None
    assert apply_all(records[2], [patch]) is None
    second = make(records[1], records[2])
    assert second is not None
    assert apply_all(records[0], [patch, second]) == records[2]
    assert apply_all(records[0], [second]) is None and apply_all(records[0], [second, patch]) is None


def large(counter: int, fields: int = 500, changed: int = 7) -> bytes:
    """A hash of many fields, one of which was changed last."""
    entries = [(b"%d" % n, HASH_FIELD, dot(A, counter if n == changed else 1), 0, b"v" * 50) for n in range(fields)]
    return encode({A: counter}, entries)


def test_one_field_of_many_makes_a_short_patch() -> None:
    """What is sent for a HSET does not depend on the size of the hash, whether the new value has another size or not."""
    for fields in (500, 10_000):
        base = large(5, fields)
        for value in (b"w" * 50, b"w" * 43, b""):
            draft = Draft(base, 0, HASH)
            draft.put(b"%d" % (fields // 3), value)
            result = draft.record(A, 9)
            patch = make(base, result)
            assert patch is not None and len(patch) < 300, len(patch)
            assert apply(base, patch) == result


def test_fields_at_both_ends_make_two_splices() -> None:
    base = large(5)
    entries = decode(base)[1]
    ends = [(field, kind, dot(A, 9), at, b"other") for field, kind, _, at, _ in (entries[0], entries[-1])]
    patch = make(base, encode({A: 9}, [ends[0], *entries[1:-1], ends[1]]))
    assert patch is not None and len(patch) < 600 and len(splices_of(patch)) >= 4


def test_what_has_no_patch() -> None:
    base, plain = large(5), supersede(None, A, 9, b"v" * 50_000)
    assert make(plain, base) is None and make(base, plain) is None
    others = [(b"o%d" % number, HASH_FIELD, dot(B, 5), 0, b"v" * 50) for number in range(500)]
    assert make(base, encode({A: 5, B: 5}, others)) is None, "nothing is the same"


def test_only_chunks_that_differ_are_read_and_they_are_read_well() -> None:
    """A record with a right checksum and one wrong chunk, row, count or clock is not sound beside its base."""
    base = large(5)
    result = large(6)
    assert is_sound_after(result, base) and is_sound(result)
    clock_at, entries_at = 26, 18
    for place in (entries_at + 3, clock_at + 15, 26 + 16 + 3, 26 + 16 + 7, 26 + 16 + 11, 13, 11, 10):
        wrong = result[:place] + bytes([result[place] ^ 4]) + result[place + 1 :]
        if place == clock_at + 15:
            wrong = result[:place] + b"\1" + result[place + 1 :]  # a clock that covers neither base nor entry
        assert not is_sound_after(wrong, base), place
    swapped = decode(result)[1]
    place = next(n for n, entry in enumerate(swapped) if entry[0] == b"7")
    body = result.replace(
        b"".join(_bytes_of(swapped[place : place + 2])), b"".join(_bytes_of(swapped[place : place + 2][::-1]))
    )
    assert len(body) == len(result) and body != result
    assert not is_sound_after(body, base), "fields out of order"


def _bytes_of(entries: list[Entry]) -> list[bytes]:
    return [struct.pack(">B16sQII", e[1], e[2], e[3], len(e[0]), len(e[4])) + e[0] + e[4] for e in entries]


@pytest.mark.parametrize("kind", [HASH_DELTA, SET_ELEMENT])
def test_patches_know_nothing_of_kinds(kind: int) -> None:
    payload = b"5" if kind == HASH_DELTA else b""
    entries = [(b"%d" % n, kind, dot(A, 1), 0, payload) for n in range(500)]
    base = encode({A: 1}, entries)
    result = encode({A: 2}, [*entries[1:], (b"new", kind, dot(A, 2), 0, payload)])
    patch = make(base, result)
    assert patch is not None and apply(base, patch) == result and is_sound_after(result, base)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 60)), min_size=1, max_size=12))
def test_many_patches_in_a_row_make_the_last_record(changes: list[tuple[int, int]]) -> None:
    """Also where they change what the ones before them have changed."""
    content = {b"%d" % number: b"v" * 50 for number in range(100)}
    records = [_of(content, 1)]
    patches: list[bytes] = []
    for counter, (number, size) in enumerate(changes, 2):
        content[b"%d" % number] = bytes([counter]) * size
        records.append(_of(content, counter))
        patch = make(records[-2], records[-1])
        assert patch is not None
        patches.append(patch)
    assert apply_all(records[0], patches) == records[-1]
    if len(patches) > 1:
        assert apply_all(records[0], [patches[0], *patches[2:]]) is None or len(patches) == 2


def _of(content: dict[bytes, bytes], counter: int) -> bytes:
    return encode({A: counter}, [(field, HASH_FIELD, dot(A, 1), 0, value) for field, value in content.items()])


def test_many_scattered_changes_make_a_patch_of_about_their_size() -> None:
    """300 of 3,000 fields: most chunks have one of them, and neighbouring chunks are not sent for each other's sake."""
    fields = {b"%06d" % number: b"v" * 50 for number in range(3000)}
    base = encode({A: 5}, [(field, HASH_FIELD, dot(A, 5), 0, value) for field, value in fields.items()])
    changed = dict.fromkeys(list(fields)[::10], b"w" * 50)
    entries = [
        (field, HASH_FIELD, dot(A, 9 if field in changed else 5), 0, changed.get(field, value))
        for field, value in fields.items()
    ]
    result = encode({A: 9}, entries)
    patch = make(base, result)
    assert patch is not None and len(patch) < 300 * 200 < len(result) // 4
    assert verify_patch(patch) and apply(base, patch) == result


def _field(number: int) -> bytes:
    return number.to_bytes(8, "big")


# Fields before which a chunk ends: of those of the next test, and of those that its drafts put between them.
BORDERS = [number for number in range(800) if is_border(_field(number))]


@given(
    st.sampled_from((HASH, LIST)),
    st.lists(
        st.tuples(st.sampled_from(BORDERS) | st.integers(0, 800), st.integers(0, 2), st.integers(1, 9)),
        min_size=1,
        max_size=20,
    ),
)
def test_what_a_draft_has_copied_need_not_be_compared(key_type: int, changes: list[tuple[int, int, int]]) -> None:
    """The patch of what a draft has made is that of a comparison, whichever chunks grow, join or divide."""
    kind = LIST_ITEM if key_type == LIST else HASH_FIELD
    base = encode({A: 1}, [(_field(2 * number), kind, dot(A, 1), 0, b"v" * 50) for number in range(400)])
    draft = Draft(base, 0, key_type)
    for number, step, size in changes:
        for field in map(_field, range(number, number + size * (step + 1), 2)):
            if step == 2 and field in dict(draft.items()):
                draft.remove(field)
            else:
                draft.put(field, b"new")
    result = draft.record(A, 2)
    noted = differing(Index(base), Index(result))
    patch = make(base, result)
    assert has_checksum(result) and is_sound(result) and is_sound_after(result, base)
    Patches().clear()
    compared = differing(Index(base), Index(result))
    assert noted == compared
    assert make(base, result) == patch
    assert patch is None or apply(base, patch) == result


def test_the_patch_of_one_field_compares_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft has told which ones it has copied."""
    compared: list[int] = []

    def equal_run(old: Index, place: int, new: Index, other: int) -> int:
        compared.append(place)
        return original(old, place, new, other)

    original = patches._equal_run
    monkeypatch.setattr(patches, "_equal_run", equal_run)
    base = encode({A: 1}, [(_field(number), HASH_FIELD, dot(A, 1), 0, b"v" * 50) for number in range(10_000)])
    draft = Draft(base, 0, HASH)
    draft.put(_field(5000), b"new")
    result = draft.record(A, 2)
    assert apply(base, make(base, result) or b"") == result
    assert len(compared) <= 3 < Index(base).count // 10
