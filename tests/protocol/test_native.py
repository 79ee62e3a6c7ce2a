"""The functions in C that read and make messages and commands give what those in Python give, whatever the bytes are."""

from __future__ import annotations

import _socket
import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import frames
from protocol.frames import encode_message
from protocol.requests import RequestLimits, RequestReader
from protocol.slots import key_slot
from server.core.records import storage_keys
from server.core.records.entries import Index, encode, pack_dot
from server.core.records.structure import verify
from server.core.records.versions import supersede
from tests.native_build import CAN_BUILD, build, native_module
from tests.protocol.test_frames import items, messages

pytestmark = [
    pytest.mark.skipif(not CAN_BUILD, reason="there is no compiler, or no headers of Python"),
    pytest.mark.interpreted,  # a compiled module has both versions, too, and would be compared with itself
]
EDITS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 2), st.sampled_from(b"\r\n*$-+0123456789:\0a")), max_size=4
)
LEAKING_CALLS = 200_000
LEAK_BYTES_MAX = 4 << 20  # an object lost at each call would be ten times as much


def edited(data: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """Returns the bytes with some of them changed (0), left out (1) or inserted (2)."""
    changed = bytearray(data)
    for place, kind, byte in edits:
        place %= len(changed) + 1
        changed[place : place + (kind < 2)] = b"" if kind == 1 else bytes([byte])
    return bytes(changed)


def found_in_python(data: bytes, start: int, end: int) -> tuple[list[Any], int] | None:
    try:
        return frames._message_at(data, start, end)
    except (IndexError, ValueError):
        return None


@given(messages.filter(bool), EDITS, st.integers(-3, 3))
@example([(b"a" * 12,)], [], 0)
@example([([],)], [], 0)
@example([(b"RELAY", [b"GET", b"k"], [b"SET", b"k"], [b"SET", b"SET"], [], [b"SET"], b"SET", [b"SETS"])], [], 0)
def test_messages_are_read_alike(sent: list[tuple[Any, ...]], edits: list[tuple[int, int, int]], cut: int) -> None:
    data = edited(b"".join(map(encode_message, sent)), edits)
    end = max(0, min(len(data), len(data) + cut))
    start = 0
    while True:
        expected = found_in_python(data, start, end)
        assert native_module().message_at(data, start, end) == expected
        if expected is None or expected[1] >= end:
            break
        start = expected[1]


@pytest.mark.parametrize(
    "data",
    [b"", b"*", b"*1", b"*1\r", b"*1\r\n", b"*1\r\n$", b"*1\r\n$3\r\nab", b"*9999999999\r\n", b"*99999999999999999999\r\n",
     b"*2\r\n*1000000\r\n$1\r\na\r\n", b"*1\r\n$9223372036854775807\r\na\r\n",
     b"*-1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n*1\r\n*1\r\n",
     b"*:\r\n", b"*1\r\n$:\r\n1234567890\r\n", b"*1\r\n$12345678901\r\n"],
)  # fmt: skip
def test_what_is_no_message_is_none(data: bytes) -> None:
    assert native_module().message_at(data, 0, len(data)) is None
    assert found_in_python(data, 0, len(data)) is None


@given(st.lists(items, max_size=5).map(tuple), st.lists(st.binary()) | st.lists(st.lists(st.binary())))
@example((b"STORE", 10**15, 3), [b"x" * 1000, b"y" * 99_999])
@example((b"STORE", (1 << 64) - 1), [])
@example((b"STORE", -5), [])
@example(("é",), [])
@example((0, 9, 10, 99, 100), [])
def test_messages_are_made_alike(head: tuple[Any, ...], rest: list[Any]) -> None:
    made = native_module().encoded(head, rest)
    simple = all(not isinstance(item, int) or 0 <= item < 1 << 63 for item in head)
    simple = simple and all(not isinstance(item, str) or item.isascii() for item in head)
    assert made == (encode_message((*head, *rest)) if simple else None)


@pytest.mark.parametrize("item", [True, None, 1.5, memoryview(b"a"), bytearray(b"a"), [[b"a"]], [1], ["a"], (b"a", 1)])
def test_what_only_python_encodes_or_refuses_is_left_to_it(item: Any) -> None:
    assert native_module().encoded((b"A", item), ()) is None
    assert native_module().encoded((b"A",), [item]) is None


COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=5)


def commands_in_python(data: bytes, bytes_max: int, arguments_max: int) -> tuple[list[list[bytes]], int]:
    reader = RequestReader(RequestLimits(bytes_max, arguments_max))
    reader.feed(data)
    return reader._read_quickly(data), reader._start


@given(COMMANDS, EDITS, st.sampled_from([1 << 20, 30]), st.sampled_from([1000, 2]), st.integers(0, 20))
@example([[b"a" * 12]], [], 30, 2, 0)
@example([[b"GET", b"k"], [b"SET", b"SET"], [b"SET"], [b"SETS"], [b"SE"]], [], 1 << 20, 1000, 0)
def test_commands_are_read_alike(
    sent: list[list[bytes]], edits: list[tuple[int, int, int]], bytes_max: int, arguments_max: int, cut: int
) -> None:
    data = edited(b"".join(map(encode_message, sent)), edits)
    data = data[: len(data) - cut]
    found = native_module().commands_at(data, 0, len(data), bytes_max, arguments_max)
    assert found == commands_in_python(data, bytes_max, arguments_max)


def test_commands_of_one_name_share_it() -> None:
    sent = [[b"SET", b"key", b"v"]] * 3
    pipeline, relay = b"".join(map(encode_message, sent)), encode_message((b"RELAY", 7, *sent))
    commands = native_module().commands_at(pipeline, 0, len(pipeline), 1 << 20, 100)[0]
    relayed = native_module().message_at(relay, 0, len(relay))[0][2:]
    for found in (commands, relayed):
        assert found == sent and found[0][0] is found[1][0] is found[2][0] and found[0][1] is not found[1][1]


@pytest.mark.parametrize("sizes", [range(200), range(200, 700)])
def test_storage_keys_and_checksums_of_any_length(sizes: range) -> None:
    for size in sizes:
        check_hashes(size)


def check_hashes(size: int) -> None:
    rng = random.Random(size)
    key, slot = rng.randbytes(size), rng.randrange(16384)
    assert native_module().key_slot(key) == (key_slot(key) if b"{" not in key else -1)
    assert native_module().storage_key(slot, key) == storage_keys.storage_key_in(slot, key)
    record = supersede(None, b"actor-a.", 5, rng.randbytes(size))
    pairs = [storage_keys.storage_key_in(slot, key), record]
    assert native_module().sound_pairs(pairs, 0) == 2
    flipped = bytearray(record)
    flipped[rng.randrange(len(record))] ^= 1 << rng.randrange(8)
    pairs[1] = bytes(flipped)
    assert not verify(pairs[1])
    assert native_module().sound_pairs(pairs, 0) == 0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def leaking_calls(native: Any) -> list[Callable[[], Any]]:
    body = encode_message((b"RELAY", 7, [b"SET", b"k", b"v" * 90], b"x" * 200))
    cut = body[:-30]
    pipeline = encode_message([b"SET", b"key", b"value"]) * 3
    record = supersede(None, b"actor-a.", 5, b"v" * 100)
    pairs = [storage_keys.storage_key_of(b"k"), record] * 3
    broken = [*pairs[:5], record[:-1]]
    collection = encode({b"actor-a.": 5}, [(b"f%d" % n, 3, pack_dot(b"actor-a.", 5), 0, b"v") for n in range(9)])
    base = Index(collection).base
    young: list[dict[bytes, bytes | None]] = [{} for _ in range(256)]
    key = storage_keys.storage_key_of(b"k")
    shelf = native.Shelf(young, bytearray(1 << 17), bytearray(1 << 16), bytearray(1 << 16), 16, 1000, b"mark")

    several = [storage_keys.storage_key_of(b"%d" % number) for number in range(20)]
    for each in several:
        young[each[5]][each] = record

    def overwrite() -> None:
        young[key[5]][key] = None
        writes: dict[bytes, bytes] = {}
        assert native.overwrite(shelf, b"k", key[0] << 8 | key[1], b"actor-a.", 6, b"v" * 100, writes) is not None
        assert native.overwrite(shelf, b"k", key[0] << 8 | key[1], b"actor-a.", 6, b"v" * 100, writes) is None
        young[key[5]][key] = supersede(None, b"actor-a.", 4, b"old")
        assert native.merge_pairs(shelf, pairs, 0, writes)[:2] == (6, 1)

    return [
        lambda: native.message_at(body, 0, len(body)), lambda: native.message_at(cut, 0, len(cut)),
        lambda: native.commands_at(pipeline, 0, len(pipeline), 1 << 20, 100),
        lambda: native.commands_at(pipeline, 0, len(pipeline), 1 << 20, 2),
        lambda: native.commands_at(pipeline[:-4], 0, len(pipeline) - 4, 1 << 20, 100),
        lambda: native.encoded((b"A", 12, "text"), [[b"a" * 100], b"b"]), lambda: native.encoded((b"A", None), []),
        lambda: native.sound_pairs(pairs, 0), lambda: native.sound_pairs(broken, 0), lambda: native.storage_key(7, b"k"),
        lambda: native.Shelf(young, bytearray(8), bytearray(8), bytearray(8), 16, 1000, b"m"), overwrite,
        lambda: native.sound_chunks(collection, 0, base, None), lambda: native.sound_chunks(collection, 0, base, b"zz"),
        lambda: native.young_of(shelf, several), lambda: native.young_of(shelf, [*several, b"no key here"]),
    ]  # fmt: skip


@pytest.mark.parametrize("index", range(16))
def test_nothing_leaks(index: int) -> None:
    call = leaking_calls(native_module())[index]
    for _ in range(1000):
        call()
    gc.collect()
    before = resident_bytes()
    for _ in range(LEAKING_CALLS):
        call()
    assert resident_bytes() - before < LEAK_BYTES_MAX


def test_only_initializers_of_compiled_modules_are_run() -> None:
    for other in (None, _socket.CAPI):
        with pytest.raises(TypeError, match="not an initializer of a compiled module"):
            native_module().initialize_module(other)


FUZZ = """
import importlib.util, random, sys
spec = importlib.util.spec_from_file_location("dyn_native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
from protocol.frames import encode_message
from server.core.records.versions import supersede
from server.core.records.storage_keys import storage_key_of
from server.core.records.entries import Index, encode, pack_dot
rng = random.Random(1)
body = encode_message((b"RELAY", 7, [b"SET", b"k", b"v" * 30], b"x" * 200))
record = supersede(supersede(None, b"actor-a.", 5, b"v" * 100), b"actor-b.", 6, b"w" * 50)
dot = pack_dot(b"actor-a.", 5)
collection = encode({b"actor-a.": 5}, [(b"%d" % n * (n % 7 == 0), n % 13, dot, n % 3, b"12345678") for n in range(90)])
keys = [b"k", b"l", b"m" * 20]
young = [{} for _ in range(256)]
shelf = native.Shelf(young, bytearray(1 << 17), bytearray(1 << 16), bytearray(1 << 16), 16, 1000, b"mark")
many = [storage_key_of(b"%d" % number) for number in range(900)]
for each in many[::2]:
    young[each[5] % 3][each] = record
    young[each[5]][each] = rng.choice([None, record])
for each in many[::10]:
    del young[each[5]][each]
def hostile(data):
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        changed[rng.randrange(len(changed))] = rng.choice(b"\\r\\n*$0123456789\\xff\\x00")
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.5 else changed)
for number in range(20_000):
    data = hostile(body)
    native.message_at(data, 0, len(data))
    native.message_at(data, rng.randrange(99), rng.randrange(999))
    native.commands_at(data, 0, len(data), 1 << 20, 1 << 20)
    native.commands_at(data, rng.randrange(99), rng.randrange(99), 40, 2)
    key, bytes_, other = storage_key_of(rng.choice(keys)), hostile(record), hostile(record)
    native.sound_pairs([hostile(key), bytes_, key, other], rng.randrange(6))
    young[key[5]][key] = rng.choice([None, record, bytes_])
    native.merge_pairs(shelf, [key, other, hostile(key), bytes_], rng.randrange(3), {})
    if number % 20 == 0:
        some = [hostile(each) if rng.random() < 0.1 else each for each in rng.sample(many, rng.randrange(600))]
        native.young_of(shelf, rng.choice([some, [*some, None, 7]]))
        native.merge_pairs(shelf, [word for each in some for word in (each, record)], 0, {})
    native.overwrite(shelf, rng.choice(keys), rng.randrange(-9, 99_999), b"actor-a.", number, data, {})
    chunk, at = rng.choice([(0, Index(collection).base), (rng.randrange(-9, 9), rng.randrange(-9, 999))])
    native.sound_chunks(hostile(collection), chunk, at, rng.choice([None, b"", b"5"]))
"""


def test_hostile_bytes_read_nothing_beside_their_objects(tmp_path: Path) -> None:
    sanitizer = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(sanitizer).is_absolute():
        pytest.skip("this compiler has no address sanitizer")
    library = build(tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover", "-g")
    environment = os.environ | {
        "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc", "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    run = subprocess.run([sys.executable, "-c", FUZZ, str(library)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
