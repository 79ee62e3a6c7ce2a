"""Pieces: large messages arrive whole and once, or not at all, whatever passes them or happens to their pieces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import DamagedFrame, FrameReader, encode_frame, encode_message, seal_small
from protocol.pieces import PieceQueue, piece_of

contents = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4)
LARGE = encode_message((b"STORE", 7, b"k" * 100, b"v" * 200))


def frames_of(messages: list[bytes], piece_bytes: int = 16) -> list[bytes]:
    queue = PieceQueue(piece_bytes)
    for message in messages:
        queue.add(message)
    return list(iter(queue.next, b""))


def read(frames: list[bytes], frame_bytes_max: int = 1 << 20) -> list[Any]:
    reader = FrameReader(frame_bytes_max)
    found = []
    for frame in frames:
        reader.feed(frame)
        found += iter(reader.next, None)
    return found


@given(
    contents, st.lists(st.integers(0, 100), max_size=5), st.integers(1, 40), st.lists(st.integers(0, 5000), max_size=8)
)
def test_large_messages_keep_their_order_and_small_ones_pass_them(
    values: list[bytes], places: list[int], piece_bytes: int, cuts: list[int]
) -> None:
    frames = frames_of([encode_message((b"STORE", index, value)) for index, value in enumerate(values)], piece_bytes)
    for number, place in enumerate(places):
        frames.insert(place % (len(frames) + 1), encode_frame((b"GOSSIP", number)))
    stream = b"".join(frames)
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found = read([stream[a:b] for a, b in pairwise(bounds)])
    assert read([stream[i : i + 1] for i in range(len(stream))]) == found
    assert [message[2] for message in found if message[0] == b"STORE"] == values
    assert sorted(int(message[1]) for message in found if message[0] == b"GOSSIP") == list(range(len(places)))


def test_a_small_message_written_between_two_pieces_arrives_before_the_large_one() -> None:
    pieces = frames_of([LARGE], 64)
    found = read([pieces[0], encode_frame((b"GOSSIP", 1)), *pieces[1:]])
    assert [message[0] for message in found] == [b"GOSSIP", b"STORE"]


@given(st.integers(2, 4), st.randoms(use_true_random=False))
def test_whatever_is_lost_repeated_or_swapped_a_message_comes_whole_and_once_or_not_at_all(
    count: int, rng: Any
) -> None:
    frames = frames_of([encode_message((b"STORE", index, bytes([index]) * 40)) for index in range(count)])
    mangled = [frame for frame in frames if rng.random() > 0.1 for _ in range(1 + (rng.random() < 0.2))]
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(mangled) or 1)
        mangled[place : place + 2] = mangled[place : place + 2][::-1]
    found = read(mangled + mangled[: rng.randint(0, len(mangled))])
    numbers = [int(message[1]) for message in found]
    assert sorted(set(numbers)) == sorted(numbers)
    assert all(message[2] == bytes([int(message[1])]) * 40 for message in found)


def test_a_connection_that_breaks_in_the_middle_leaves_nothing_behind() -> None:
    queue = PieceQueue(16)
    queue.add(LARGE)
    queue.add(LARGE)
    assert queue.waiting_bytes == 2 * len(LARGE)
    first = [queue.next() for _ in range(3)]
    assert queue.waiting_bytes == 2 * len(LARGE) - 48
    queue.clear()
    assert not queue and queue.waiting_bytes == 0 and queue.next() == b""
    queue.add(encode_message((b"STORE", 2, b"after")))
    rest = list(iter(queue.next, b""))
    assert read(rest) == [[b"STORE", b"2", b"after"]]  # over a new connection
    assert read(first + rest) == [[b"STORE", b"2", b"after"]]  # and should it be the same


def test_no_bit_of_a_piece_changes_unnoticed() -> None:
    piece = piece_of(encode_message((b"a", b"value")), 1, 0, 1 << 10)
    assert read([piece]) == [[b"a", b"value"]]
    for place in range(8 * len(piece)):
        damaged = bytearray(piece)
        damaged[place // 8] ^= 1 << place % 8
        try:
            assert read([bytes(damaged)]) == []  # a longer one is announced
        except DamagedFrame:
            continue
        with pytest.raises(DamagedFrame):
            read([bytes(damaged), bytes(1 << 20)])


def test_a_message_over_the_limit_is_refused_by_its_first_piece() -> None:
    piece = frames_of([LARGE])[0]
    assert read([piece], len(LARGE)) == []
    with pytest.raises(DamagedFrame, match="frame_bytes_max"):
        read([piece], len(LARGE) - 1)


def test_only_large_messages_are_parted_from_a_turn() -> None:
    small = [encode_message((b"GOSSIP", number)) for number in range(3)]
    large: list[bytes] = []
    frame = seal_small([small[0], LARGE, small[1], LARGE, small[2]], len(LARGE), large, len(LARGE))
    assert large == [LARGE, LARGE]
    assert [message[0] for message in read([frame])] == [b"GOSSIP"] * 3
    assert seal_small([LARGE], len(LARGE), [], len(LARGE)) == b""
