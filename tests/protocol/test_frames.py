"""Frames: messages cut anywhere read back; a frame with any bit flipped is never taken for a message (promise P11)."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from protocol.frames import DamagedFrame, FrameReader, encode_blobs, encode_frame, encode_lists, encode_message, seal

lists = st.lists(st.binary(), max_size=5)
items = st.binary() | st.integers() | st.text(st.characters(codec="utf-8")) | lists | lists.map(tuple)
messages = st.lists(st.lists(items, max_size=5).map(tuple), max_size=4)
EXAMPLE = (b"RELAY", 7, "é", (b"SET", b"k", b"v" * 90), (b"DEL", b"x"))
OTHER = encode_frame((b"STORED", 1))


def as_read(message: tuple[Any, ...]) -> list[Any]:
    """Numbers and text are bytes when they arrive, tuples are lists."""
    return [
        list(item) if isinstance(item, list | tuple) else item if isinstance(item, bytes) else str(item).encode()
        for item in message
    ]


def frame_of(body: bytes) -> bytes:
    return b"*2\r\n$8\r\n%b\r\n$%d\r\n%b\r\n" % (xxh3_64_digest(body), len(body), body)


def read(chunks: list[bytes], frame_bytes_max: int = 1 << 20) -> list[list[Any]]:
    reader = FrameReader(frame_bytes_max)
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (message := reader.next()) is not None:
            found.append(message)
    return found


@given(messages, st.lists(st.integers(0, 1000), max_size=6))
def test_any_messages_cut_anywhere_read_back(sent: list[tuple[Any, ...]], positions: list[int]) -> None:
    stream = b"".join(map(encode_frame, sent))
    bounds = [0, *sorted(position % (len(stream) + 1) for position in positions), len(stream)]
    expected = [as_read(message) for message in sent]
    assert read([stream[a:b] for a, b in pairwise(bounds)]) == expected
    assert read([stream[i : i + 1] for i in range(len(stream))]) == expected


def test_a_frame_is_resp_with_a_checksum() -> None:
    body = b"*2\r\n$1\r\na\r\n*1\r\n$2\r\n10\r\n"
    assert encode_frame((b"a", (b"10",))) == frame_of(body)
    assert encode_frame([b"a", [b"1", b"2", b"3"], 5]) == frame_of(
        b"*3\r\n$1\r\na\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n5\r\n"
    )
    assert encode_frame(()) == frame_of(b"*0\r\n")


def plain(item: Any) -> bytes:
    if isinstance(item, list):
        return b"*%d\r\n%b" % (len(item), b"".join(map(plain, item)))
    return b"$%d\r\n%b\r\n" % (len(item), item)


@given(st.lists(items, max_size=8))
@example([b"x" * 1023, b"x" * 1024, 1 << 70, -5, [b"x" * 1023, b"x" * 1024, b""]])
@example([[b""] * 63, [b""] * 64, [b""] * 65])
def test_an_encoded_message_is_plain_resp(message: list[Any]) -> None:
    expected = plain(as_read(tuple(message)))
    assert encode_message(message) == encode_message(tuple(message)) == expected
    assert seal([expected]) == frame_of(expected)


@pytest.mark.parametrize(
    "size", [b"07", b"+7", b"-7", b"", b" 7", b"7 ", b"0000000007", b"10000000000", b"0x7", b"7_", b"0"]
)
def test_a_size_has_one_form_only(size: bytes) -> None:
    body = b"*1\r\n$1\r\na\r\n"[:7]
    header = b"*2\r\n$8\r\n%b\r\n$%b\r\n" % (xxh3_64_digest(body), size)
    with pytest.raises(DamagedFrame, match="not the header"):
        read([header + body + b"\r\n" + OTHER])


@pytest.mark.parametrize("chunk_bytes", [1000, 9000, 30_000])
def test_frames_of_all_sizes_in_chunks_of_a_socket(chunk_bytes: int) -> None:
    sent = [[b"STORE", b"x" * (i * 7919 % 25_000)] for i in range(40)]
    stream = b"".join(map(encode_frame, sent))
    assert read([stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)]) == sent


@pytest.mark.parametrize("message", [EXAMPLE, (b"A",), ()])
def test_no_flipped_bit_of_a_frame_goes_unnoticed(message: tuple[Any, ...]) -> None:
    frame = encode_frame(message)
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        reader = FrameReader(1 << 20)
        reader.feed(bytes(damaged))
        reader.feed(OTHER * 3)
        try:
            assert reader.next() is None, f"bit {bit}"  # a larger frame is awaited
            assert int(bytes(damaged[19:]).partition(b"\r")[0]) > len(frame)
        except DamagedFrame:
            continue


@given(st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), min_size=1, max_size=3))
def test_a_frame_damaged_in_any_way_is_never_another_message(changes: list[tuple[int, bytes]]) -> None:
    frame = encode_frame(EXAMPLE)
    damaged = frame
    for position, replacement in changes:
        start = position % len(frame)
        damaged = damaged[:start] + replacement + damaged[start + 2 :]
    reader = FrameReader(1 << 20)
    reader.feed(damaged)
    try:
        assert reader.next() in (None, as_read(EXAMPLE))
        assert damaged.startswith(frame) or reader.next() is None
    except DamagedFrame:
        assert not damaged.startswith(frame)


@given(st.binary(max_size=100))
def test_junk_is_no_frame(junk: bytes) -> None:
    try:
        assert read([junk]) == []
        assert len(junk) < 31
    except DamagedFrame:
        assert len(junk) >= 31


def test_the_messages_before_the_damage_come_first_and_the_damage_stays() -> None:
    reader = FrameReader()
    reader.feed(OTHER + OTHER[:-1] + b"\r" + OTHER)
    assert reader.next() == [b"STORED", b"1"]
    for _ in range(2):
        with pytest.raises(DamagedFrame, match="checksum"):
            reader.next()
        reader.feed(OTHER)


@pytest.mark.parametrize(
    "body",
    [
        b"+OK\r\n",
        b"*2\r\n$1\r\na\r\n",
        b"junk",
        b"%1\r\n*0\r\n+a\r\n",
        b"*-1\r\n",
        b"*\r\n",
        b"*1",
        b"*1\r\n$2\r\na\r\n",  # an item that reaches beyond the body
        b"*1\r\n$1\r\na",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$1x\r\na\r\n",
        b"*1\r\n$00000000001\r\na\r\n",
        b"*1\r\n$9999999999999999999\r\na\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b"*1\r\n*2\r\n$1\r\na\r\n",
    ],
)
def test_a_body_that_is_not_arrays_is_refused_though_its_checksum_is_right(body: bytes) -> None:
    reader = FrameReader()
    reader.feed(frame_of(body))
    for _ in range(2):
        with pytest.raises(DamagedFrame, match="not arrays"):
            reader.next()


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), min_size=1, max_size=6), st.integers(1, 200))
def test_messages_sealed_together_come_out_one_by_one_in_their_order(messages: list[list[bytes]], limit: int) -> None:
    sealed = seal([encode_message(message) for message in messages], limit)
    assert read([sealed[i : i + 7] for i in range(0, len(sealed), 7)], 1 << 20) == messages


def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    frame = encode_frame((b"x" * 1000,))
    assert read([frame], len(frame)) == [[b"x" * 1000]]
    for part in (frame[:40], frame):
        with pytest.raises(DamagedFrame, match="frame_bytes_max"):
            read([part], len(frame) - 1)


def test_a_large_frame_in_small_chunks_is_let_go_after_it_was_read() -> None:
    frame = encode_frame((b"x" * 3_000_000,))
    reader = FrameReader()
    tracemalloc.start()
    try:
        for i in range(0, len(frame), 50_000):
            assert reader.next() is None
            reader.feed(frame[i : i + 50_000])
        assert reader.next() == [b"x" * 3_000_000]
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("item", [None, True, 1.5, 1.5j, {b"a": b"b"}, [None], [b"a", b"b", 3], [b"a", "b"], [[b"a"]]])
def test_other_items_are_refused(item: Any) -> None:
    for message in ((b"A", item), (item, b"A")):
        with pytest.raises(TypeError):
            encode_frame(message)


@given(
    st.lists(st.binary(max_size=2000), max_size=80), st.lists(st.lists(st.binary(max_size=40), max_size=80), max_size=9)
)
def test_many_byte_strings_or_lists_are_encoded_as_any_items_are(blobs: list[bytes], lists: list[list[bytes]]) -> None:
    head = (b"KEEP", 7, 12, "text")
    assert encode_blobs(head, blobs) == encode_message([*head, *blobs])
    assert encode_lists(head, lists) == encode_message([*head, *lists])


@pytest.mark.parametrize("size", [63, 64, 65, (1 << 16) - 1, 1 << 16, 1 << 17])
def test_large_and_many_items_are_encoded_as_such(size: int) -> None:
    large = [b"before", b"after", b"x" * size]
    assert encode_blobs((b"KIND", 5), large) == encode_message((b"KIND", 5, *large))
    many = [b"%d" % number for number in range(size)]
    assert encode_blobs((b"KIND", 5), many) == encode_message((b"KIND", 5, *many))
    assert encode_lists((b"KIND", 5), [large, many, []]) == encode_message((b"KIND", 5, large, many, []))
    assert encode_lists((b"KIND", 5), [many, [], large]) == encode_message((b"KIND", 5, many, [], large))
