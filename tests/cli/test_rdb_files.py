"""dyn import FILE.rdb: files of RDB versions 6 to 12 with each encoding that a Redis from 2.4 to 7.4 has written.

What is read is compared with what the file is known to hold: the key, its database and expiry, and what RESTORE makes of
its value. Files up to version 9 are those of rdb/, which real servers wrote. The ones of a version before 6 are given the
header and the end of version 6, since only these have changed. Later files are made here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.moving.checksums import checksum_of, sealed
from dynamo_cli.moving.rdb_reader import Key, RdbFile
from dynamo_cli.moving.rdb_values import EMPTY_STREAMS, GROUPS, LAST_IDS
from protocol import resp
from server.core.formats import listpack, payloads
from server.core.formats.pausing import run_through
from server.core.formats.payload_reader import load

FILES = Path(__file__).parent / "rdb"
BYTES_MAX = 1 << 20
SCORE = struct.Struct(">d")
ID = struct.Struct(">QQ")
EXPIRY_MS = 2_000_000_000_123  # in s, an expiry has 31 bits


def whole(body: bytes) -> bytes:
    """A file with its checksum."""
    return body + checksum_of([body]).to_bytes(8, "little")


def raised(data: bytes) -> bytes:
    """A file as version 6 has it. Version 5 brought the checksum."""
    version = int(data[5:9])
    return data if version > 5 else whole(b"REDIS0006" + (data[9:-8] if version == 5 else data[9:]))


def opened(data: bytes, directory: Path) -> RdbFile:
    """The file, whose checksum is right."""
    path = directory / "dump.rdb"
    path.write_bytes(data)
    file = RdbFile(path)
    file.check()
    return file


def shown(key: Key, version: int) -> Any:
    """What a key holds: bytes, a list, a set or a dict; of a sorted set a dict of floats; or why it is left out."""
    if key.text is not None:
        return key.text
    if key.left_out:
        return f"left out: {key.left_out}"
    value = run_through(load(sealed(key.value, version), BYTES_MAX))
    if value.kind == payloads.STREAM:
        return [(ID.unpack(name), resp.bulks_of(array)) for name, array in value.items]
    names = [name for name, _ in value.items]
    if value.kind == payloads.ZSET:
        return {name: SCORE.unpack(score)[0] for name, score in value.items}
    if value.kind == payloads.HASH:
        return {name: (text, value.expiries_ms.get(name, 0)) for name, text in value.items}
    return {payloads.STRING: value.string, payloads.LIST: names, payloads.SET: set(names)}[value.kind]


def content(file: RdbFile) -> dict[tuple[int, bytes], Any]:
    """What the file holds, by database and key, with the expiry."""
    keys = list(file.keys())
    return {(key.database, key.key): (shown(key, file.version), key.expires_at_ms) for key in keys}


def hashed(**fields: str) -> dict[bytes, tuple[bytes, int]]:
    return {name.encode(): (text.encode(), 0) for name, text in fields.items()}


SMALL_HASH = hashed(a="aa", aa="aaaa", aaaaa="aaaaaaaaaaaaaa")
OF_SERVERS: dict[str, dict[tuple[int, bytes], Any]] = {
    "multiple_databases": {(0, b"key_in_zeroth_database"): b"zero", (2, b"key_in_second_database"): b"second"},
    "easily_compressible_string_key": {(0, b"a" * 200): b"Key that redis should compress easily"},
    "integer_keys": {
        (0, b"183358245"): b"Positive 32 bit integer",
        (0, b"125"): b"Positive 8 bit integer",
        (0, b"-29477"): b"Negative 16 bit integer",
        (0, b"-123"): b"Negative 8 bit integer",
        (0, b"43947"): b"Positive 16 bit integer",
        (0, b"-183358245"): b"Negative 32 bit integer",
    },
    "intset_16": {(0, b"intset_16"): {b"32764", b"32765", b"32766"}},
    "intset_32": {(0, b"intset_32"): {b"2147418108", b"2147418109", b"2147418110"}},
    "intset_64": {(0, b"intset_64"): {b"9223090557583032316", b"9223090557583032317", b"9223090557583032318"}},
    "regular_set": {(0, b"regular_set"): {b"beta", b"delta", b"alpha", b"phi", b"gamma", b"kappa"}},
    "zipmap_that_compresses_easily": {(0, b"zipmap_compresses_easily"): SMALL_HASH},
    "hash_as_ziplist": {(0, b"zipmap_compresses_easily"): SMALL_HASH},
    "ziplist_that_compresses_easily": {(0, b"ziplist_compresses_easily"): [b"a" * size for size in range(6, 42, 6)]},
    "sorted_set_as_ziplist": {
        (0, b"sorted_set_as_ziplist"): {
            b"8b6ba6718a786daefa69438148361901": 1.0,
            b"cb7a24bb7528f934b841b34c3a73e0c7": 2.37,
            b"523af537946b79c4f8369ed39ba78605": 3.423,
        }
    },
    "rdb_version_5_with_checksum": {
        (0, b"abcd"): b"efgh",
        (0, b"foo"): b"bar",
        (0, b"bar"): b"baz",
        (0, b"abcdef"): b"abcdef",
        (0, b"longerstring"): b"thisisalongerstring.idontknowwhatitmeans",
        (0, b"abc"): b"def",
    },
    "ziplist_with_integers": {
        (0, b"ziplist_with_integers"): [
            b"%d" % number
            for number in (
                *range(13), -2, 13, 25, -61, 63, 16380, -16000, 65535, -65523, 4194304, 9223372036854775807,
            )
        ]
    },  # version 6
    "non_ascii_values": {
        (0, b"int_value"): b"123",
        (0, b"ascii"): b"\x00! ~0\n\t\rAb",
        (0, b"bin"): b"\x00$ ~0\x7f\xff\n\xaa\t\x80\rAb",
        (0, b"printable"): b"!+ Ab^~",
        (0, b"378"): b"int_key_name",
        (0, b"utf8"): "בדיקה𐀏123עברית".encode(),
    },  # version 7
    "redis_60_with_module_aux": {},  # version 9; what the module has beside keys is passed over
}  # fmt: skip


@pytest.mark.parametrize("name", OF_SERVERS)
def test_files_of_earlier_servers_are_read_whole(tmp_path: Path, name: str) -> None:
    found = content(opened(raised((FILES / f"{name}.rdb").read_bytes()), tmp_path))
    assert found == {place: (value, 0) for place, value in OF_SERVERS[name].items()}


def test_an_expiry_in_ms_is_kept(tmp_path: Path) -> None:
    found = content(opened(raised((FILES / "keys_with_expiry.rdb").read_bytes()), tmp_path))
    assert found == {(0, b"expires_ms_precision"): (b"2022-12-25 10:11:12.573 UTC", 1_671_963_072_573)}


def test_a_file_of_redis_5_has_all_types(tmp_path: Path) -> None:
    file = opened((FILES / "redis_50_with_streams.rdb").read_bytes(), tmp_path)
    found = content(file)
    values = {name: value for (_, name), (value, _) in found.items()}
    assert values[b"mystream"] == [
        ((1528176919539, 0), [b"message", b"apple"]),
        ((1528199037311, 0), [b"sensor-id", b"1234", b"temperature", b"19.8"]),
        ((1528199075689, 0), [b"sensor-id", b"12345", b"temperature", b"19.9"]),
        ((1528199178069, 0), [b"sensor-id", b"123456", b"temperature", b"19.10"]),
    ]
    assert {key.key: key.parts_left_out for key in list(file.keys()) if key.parts_left_out} == {b"mystream": (GROUPS,)}
    items = [b"1", b"2", b"3", b"a", b"b", b"c", b"100000", b"6000000000"]
    assert values[b"list_zipped"] == items and values[b"list"] == items * 3
    assert len(found) == 14
    assert values[b"set"] == set(items) and values[b"set_zipped_3"] == {b"%d000000000" % n for n in range(1, 7)}
    assert values[b"hash_zipped"] == hashed(a="1", b="2", c="3") and len(values[b"hash"]) == 11
    assert values[b"zset_zipped"] == {b"a": 1.0, b"b": 2.0, b"c": 3.0} and not values[b"compressible"].strip(b"a")


# --- files of later versions


def string(data: bytes) -> bytes:
    """A string of up to 63 bytes, or with a length of 32 bits."""
    return (bytes([len(data)]) if len(data) < 64 else b"\x80" + len(data).to_bytes(4, "big")) + data


def packed(*items: bytes) -> bytes:
    return string(listpack.pack(items))


def made(version: int, *parts: bytes, magic: bytes = b"REDIS%04d") -> bytes:
    """A file of these parts in database 0."""
    facts = b"\xfa" + string(b"redis-ver") + string(b"7.4.0") + b"\xfe\x00\xfb\x05\x01"
    return whole(magic % version + facts + b"".join(parts) + b"\xff")


def keyed(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + string(name) + value


STREAM_3 = b"".join([
    b"\x01", string(bytes(16)), packed(b"1", b"0", b"1", b"a", b"0", b"2", b"0", b"1", b"b", b"4"),
    b"\x01\x01\x00\x01\x00\x00\x00\x01",  # length, ids, entries added
    b"\x01", string(b"group"), b"\x00\x00\x01",  # a group: last id, entries read
    b"\x01", bytes(24), b"\x01",  # pending for the group
    b"\x01", string(b"consumer"), bytes(16), b"\x01", bytes(16),  # a consumer, its times, pending for it
])  # fmt: skip
BASE = EXPIRY_MS.to_bytes(8, "little")
LATER: dict[str, tuple[int, bytes, Any]] = {
    "a hash in a listpack": (10, keyed(16, b"k", packed(b"f", b"v", b"g", b"7")), hashed(f="v", g="7")),
    "a sorted set in a listpack": (10, keyed(17, b"k", packed(b"m", b"1.5", b"n", b"2")), {b"m": 1.5, b"n": 2.0}),
    "a list of listpacks and a plain node": (
        10, keyed(18, b"k", b"\x02\x02" + packed(b"a", b"-5") + b"\x01" + string(b"p" * 100)), [b"a", b"-5", b"p" * 100],
    ),
    "a set in a listpack": (11, keyed(20, b"k", packed(b"a", b"12", b"c")), {b"a", b"12", b"c"}),
    "scores in eight bytes": (11, keyed(5, b"k", b"\x01" + string(b"m") + struct.pack("<d", -0.25)), {b"m": -0.25}),
    "scores as texts": (
        6, keyed(3, b"k", b"\x03" + string(b"m") + b"\x031.5" + string(b"n") + b"\xfe" + string(b"o") + b"\xff"),
        {b"m": 1.5, b"n": float("inf"), b"o": float("-inf")},
    ),
    "a stream of Redis 7.2": (11, keyed(21, b"k", STREAM_3), [((0, 1), [b"a", b"b"])]),
    "fields that expire": (
        12, keyed(24, b"k", BASE + b"\x02" + b"\x01" + string(b"f") + string(b"v") + b"\x00" + string(b"g") + string(b"w")),
        {b"f": (b"v", EXPIRY_MS), b"g": (b"w", 0)},
    ),
    "fields that expire in a listpack": (
        12, keyed(25, b"k", BASE + packed(b"f", b"v", b"%d" % EXPIRY_MS, b"g", b"w", b"0")),
        {b"f": (b"v", EXPIRY_MS), b"g": (b"w", 0)},
    ),
    "fields that expire as the release candidate of 7.4 wrote them": (
        12, keyed(23, b"k", packed(b"f", b"v", b"%d" % EXPIRY_MS)), {b"f": (b"v", EXPIRY_MS)},
    ),
}  # fmt: skip
AFTER = b"\xfc" + BASE + b"\xf8\x05" + keyed(0, b"after", string(b"v"))  # with an expiry and an idle time


@pytest.mark.parametrize("name", LATER)
def test_each_later_encoding_is_read_and_the_key_behind_it(tmp_path: Path, name: str) -> None:
    version, part, value = LATER[name]
    expiring = b"\xfd" + (EXPIRY_MS // 1000).to_bytes(4, "little") + b"\xf9\x07" + part
    found = content(opened(made(version, expiring, AFTER), tmp_path))
    assert found == {(0, b"k"): (value, EXPIRY_MS // 1000 * 1000), (0, b"after"): (b"v", EXPIRY_MS)}


@pytest.mark.parametrize(
    ("counts", "left_out", "parts_left_out"),
    [
        (b"\x01\x05\x00\x05\x00\x00\x00\x01\x00", "", ()),
        (b"\x01\x05\x00\x05\x00\x04\x00\x02\x00", "", ()),  # deleted was another entry
        (b"\x01\x06\x02\x05\x00\x06\x02\x02\x00", "", (LAST_IDS,)),
        (b"\x00\x06\x02\x00\x00\x06\x02\x02\x00", EMPTY_STREAMS, (LAST_IDS,)),
    ],
)
def test_what_of_a_stream_is_left_out_is_told(
    tmp_path: Path, counts: bytes, left_out: str, parts_left_out: tuple[str, ...]
) -> None:
    """The form of Redis 7.0 has: entries; last, first and greatest deleted id; entries added, groups."""
    nodes = (
        counts[:1]
        + (string(bytes(16)) + packed(b"1", b"0", b"1", b"a", b"0", b"2", b"5", b"0", b"b", b"4")) * counts[0]
    )
    found, after = opened(made(10, keyed(19, b"k", nodes + counts), AFTER), tmp_path).keys()
    assert (found.left_out, found.parts_left_out) == (left_out, parts_left_out)
    assert after.key == b"after"


def test_what_is_no_key_is_passed_over_and_functions_are_counted(tmp_path: Path) -> None:
    slot = b"\xf4\x01\x02\x03"
    functions = (b"\xf5" + string(b"#!lua name=one\n")) + (b"\xf5" + string(b"#!lua name=two\n" + b" " * 80))
    module = b"\xf7\x81" + bytes(8) + b"\x02\x01\x05" + string(b"text") + b"\x04" + bytes(8) + b"\x00"
    file = opened(made(12, slot, functions, module, AFTER), tmp_path)
    assert content(file) == {(0, b"after"): (b"v", EXPIRY_MS)}
    assert file.functions == 2


@pytest.mark.parametrize("version", [5, 13])
def test_other_versions_are_refused_with_what_to_do(tmp_path: Path, version: int) -> None:
    with pytest.raises(WrongUsage, match=f"version {version} of Redis, and versions 6 to 12 of Redis and 80 of Valkey"):
        opened(made(version, AFTER), tmp_path)


def test_a_type_of_a_later_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="type 26"):
        content(opened(made(12, keyed(26, b"k", b"\x00")), tmp_path))


VALKEY = b"VALKEY%03d"
NEVER = b"\xff" * 8


def test_a_file_of_valkey_is_read_with_fields_that_expire(tmp_path: Path) -> None:
    later = (EXPIRY_MS + 300).to_bytes(8, "little")
    fields = (
        string(b"f") + string(b"v") + later + string(b"g") + b"\xc0\x07" + NEVER + string(b"h") + string(b"x") + BASE
    )
    lasting = string(b"f") + string(b"v") + NEVER
    parts = (
        keyed(22, b"k", b"\x03" + fields),
        keyed(22, b"l", b"\x01" + lasting),
        keyed(16, b"m", packed(b"f", b"v")),
        AFTER,
    )
    found = content(opened(made(80, *parts, magic=VALKEY), tmp_path))
    assert found == {
        (0, b"k"): ({b"f": (b"v", EXPIRY_MS + 300), b"g": (b"7", 0), b"h": (b"x", EXPIRY_MS)}, 0),
        (0, b"l"): (hashed(f="v"), 0),
        (0, b"m"): (hashed(f="v"), 0),
        (0, b"after"): (b"v", EXPIRY_MS),
    }


@pytest.mark.parametrize("version", [11, 79, 81])
def test_other_versions_of_valkey_are_refused_with_what_to_do(tmp_path: Path, version: int) -> None:
    with pytest.raises(
        WrongUsage, match=f"version {version} of Valkey, and versions 6 to 12 of Redis and 80 of Valkey"
    ):
        opened(made(version, AFTER, magic=VALKEY), tmp_path)


def test_a_type_of_redis_is_none_of_valkey(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="type 24"):
        content(opened(made(80, LATER["fields that expire"][1], magic=VALKEY), tmp_path))


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_mark_of_a_server_behind_the_end_is_passed_over(tmp_path: Path, has_checksum: bool) -> None:
    data = made(12, AFTER)
    data = data if has_checksum else data[:-8] + bytes(8)
    assert content(opened(data + b"6ce932509f" * 4, tmp_path)) == {(0, b"after"): (b"v", EXPIRY_MS)}
    for behind in (b"6ce932509f" * 3, b"6ce932509g" * 4, b"6ce932509f" * 5):
        with pytest.raises(Failure, match="truncated or damaged"):
            opened(data + behind, tmp_path)
    with pytest.raises(Failure, match="truncated or damaged"):
        opened(whole(data[:-9])[:-1] + b"6ce932509f" * 4, tmp_path)
