"""Values that the declarations of the kinds do not describe: records, layouts and documents, and damaged ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xxhash import xxh3_64_digest

from protocol.bounds import COUNT_MAX, COUNTER_MAX, EPOCH_MAX, TIME_MS_MAX
from server.core.records.entries import encode
from server.core.records.kinds import HASH_FIELD
from server.core.records.patches import make
from server.core.records.records import META, storage_key_of
from server.core.records.versions import TOMBSTONE, supersede, write
from server.core.ring.change import WEIGHT, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import commit
from tests.core.membership.test_membership import layout_of

KEYS = [storage_key_of(b"a"), storage_key_of(b"b")]
A, B = b"actor-a.", b"actor-b."
RECORD = supersede(None, A, 5 << 16, b"value")
SIBLINGS = write(write(None, A, 5 << 16, b"one"), B, 6 << 16, b"", 0, TOMBSTONE)
DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG_ITEMS: list[Any] = [5, None, [b"x"]]


def sealed(body: bytes) -> bytes:
    """Returns a record with this body and a right checksum."""
    return xxh3_64_digest(body) + body


def wrong_structures() -> dict[str, bytes]:
    """Returns records with a right checksum and a wrong structure."""
    body = RECORD[8:]
    single = {
        "ends early": body[:-1],
        "ends late": body + b"x",
        "a value that is longer than the record": body[:45] + b"\0\0\xff\xff" + body[49:],
        "a negative length": body[:45] + b"\xff\xff\xff\xff" + body[49:],
        "an unknown kind": body[:44] + b"\2" + body[45:],
        "an expiry before 1970": body[:36] + b"\xff" * 8 + body[44:],
        "a dot of nobody": body[:20] + B + body[28:],
        "a dot that the clock does not cover": body[:28] + struct.pack(">Q", 6 << 16) + body[36:],
        "a clock 800 years ahead": body[:12] + struct.pack(">Q", COUNTER_MAX + 1) + body[20:],
        "a clock below zero": body[:12] + b"\xff" * 8 + body[20:],
        "nothing": b"",
        "only counts": struct.pack(">HH", 1, 1),
        "no clock": struct.pack(">HH", 0, 1) + body[20:],
        "counts of another record": struct.pack(">HH", 0xFFFF, 0xFFFF) + body[4:],
        "fewer siblings than bytes": struct.pack(">HH", 1, 0) + body[4:],
        "more siblings than bytes": struct.pack(">HH", 1, 2) + body[4:],
    }
    body = SIBLINGS[8:]
    clock, dots = body[4:36], body[36:]
    first, second = dots[: 29 + 3], dots[29 + 3 :]
    double = {
        "actors out of order": body[:4] + clock[16:] + clock[:16] + dots,
        "an actor twice": body[:4] + clock[:16] + clock[:16] + dots,
        "dots out of order": body[:36] + second + first,
        "a dot twice": body[:36] + first + first,
        "the last sibling is cut off": body[:-3],
        "bytes behind the last sibling": body + b"\0",
    }
    return {what: sealed(body) for what, body in {**single, **double}.items()}


def damaged_records() -> list[bytes]:
    """Returns bytes that are no records."""
    flipped = bytes([RECORD[0] ^ 1]) + RECORD[1:]
    return [flipped, RECORD[:-1], RECORD + b"x", b"?x", *wrong_structures().values()]


def _patch() -> bytes:
    """A patch for one field among many."""
    base = hash_of({b"%d" % number: bytes(50) for number in range(100)}, 5 << 16)
    patch = make(base, hash_of({b"%d" % number: bytes(50 + (number == 7)) for number in range(100)}, 6 << 16))
    assert patch is not None
    return patch


def hash_of(fields: dict[bytes, bytes], counter: int) -> bytes:
    """Returns the record of a hash with these fields, all written by one command."""
    return encode(
        {A: counter}, [(field, HASH_FIELD, A + struct.pack(">Q", 1 << 16), 0, fields[field]) for field in fields]
    )


PATCH = _patch()


def damaged_patches() -> list[bytes]:
    """Returns bytes that are no patches."""
    body = PATCH[8:]
    clock_at, count_at, splices_at = 32 - 8, 36 - 8, 40 - 8 + 16
    wrong = {
        "another version": body[:3] + b"\2" + body[4:],
        "no clock": body[:clock_at] + bytes(4) + body[clock_at + 4 :],
        "a clock that is longer than all": body[:clock_at] + b"\x7f\xff\xff\xff" + body[clock_at + 4 :],
        "fewer splices than there are": body[:count_at] + bytes(4) + body[count_at + 4 :],
        "more splices than there are": body[:count_at] + b"\0\xff\xff\xff" + body[count_at + 4 :],
        "splices out of order": body[:splices_at] + b"\x7f\xff\xff\xff" + body[splices_at + 4 :],
        "a splice in the checksum": body[:splices_at] + bytes(4) + body[splices_at + 4 :],
        "bytes behind the end": body + b"x",
        "ends early": body[:-1],
    }
    return [bytes([PATCH[0] ^ 1]) + PATCH[1:], PATCH[:40], *[sealed(body) for body in wrong.values()]]


DAMAGED_KEYS = [b"", KEYS[0][:5], b"\x40" + KEYS[0][1:], META + b"layout", *WRONG_ITEMS]


# --- documents


def damaged_documents(value: Any) -> Iterator[bytes]:
    """Returns the document of a value with each part damaged in turn, and bytes that are no document."""
    whole = json.dumps(value).encode()
    yield from (b"", b"{", whole[:-1], whole + b"x", b"\xff" + whole, DEEP, b"NaN", b"null", b'"x"')
    for damaged in _damaged(value):
        yield json.dumps(damaged).encode()
    if isinstance(value, dict):
        yield b'{"deep":' + DEEP + b"," + whole[1:]


def _damaged(value: Any) -> Iterator[Any]:
    """Yields the value with each of its parts replaced by an invalid one, and with each field removed."""
    yield [["x"]]
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in OPTIONAL:
                yield {key: other for key, other in value.items() if key != name}
            for damaged in _damaged(item):
                if damaged is not None or name not in NULLABLE:
                    yield {**value, name: damaged}
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for damaged in _damaged(item):
                yield [*value[:place], damaged, *value[place + 1 :]]
    elif isinstance(value, bool) or value is None:
        yield from ("x", 5)
    elif isinstance(value, (int, float)):
        yield from ("1", -1, COUNT_MAX + 1, 10**40, None, True)
    else:
        yield from (5, None, True, "x" * 100_000)


# Fields that earlier versions do not send, names that are data themselves, and ids of changes that are only keys.
OPTIONAL = {
    "unreadable", "gone_back", "taken_back", "aside", "filling", "failing", "internal_errors", "scrub",
    "damaged", "mended", "lost", "disk_full", "disk_room", "transfer", "to_let_go", "copies", "wall_ms", "eta_s", "n3",
    "c1", "weight", "bob", "lib", "c", "rebuild", "held_back", "STORE",
}  # fmt: skip
NULLABLE = {"eta_s", "filling", "transfer", "ended_us", "committed_us", "sent_us", "answered_us"}
TASK = {
    "task": "repair-1", "state": "done", "partitions": 16, "partitions_done": 16, "keys_compared": 5,
    "keys_repaired": 1, "bytes_sent": 100, "node": "n2", "error": "", "started_ms": 1_800_000_000_000,
}  # fmt: skip
TRANSFER = {"partitions": 4, "partitions_done": 1, "keys": 9, "keys_done": 3, "bytes_sent": 10, "eta_s": 7}
STAGED = {
    "epoch": 2,
    "changes": {"c1": Change("c1", WEIGHT, "n2", weight=2).encode()},
    "aborted": ["c0"],
}
_BOB = ["on", "~a*", "resetchannels", "-@all", "+get"]
USERS = {
    "floor": "1f",
    "users": {"bob": ["8bcfe5680000001", "n2", "20", _BOB, [["resetchannels", "-@all", "+set"]]]},
}
_TEXT = "#!lua name=lib\nredis.register_function('f', function() return '\u00ff' end)"
LIBRARIES = {
    "floor": "1f",
    "libraries": {
        "lib": ["8bcfe5680000001", "n2", _TEXT, [["f", ["says"], ["no-writes", "allow-oom"]], ["g", [], []]]]
    },
}
_SWAP_IDS = [f"{number:024x}" for number in (255, 254, 253)]
NUMBERINGS: dict[str, Any] = {
    "floor": "0",
    "numberings": {
        "c": [
            "1f",
            [1, 0, *range(2, 16)],
            [_SWAP_IDS[0]],
            [["20", "n2", _SWAP_IDS[1], 0, 5], ["20", "n3", _SWAP_IDS[2], 1, 1]],
        ]
    },
}
DOCUMENTS: dict[bytes, Any] = {
    b"TRACE": {
        "id": "0a" * 8, "parent": "", "turns": [{
            "begun_us": 0, "received": [["STORED", "n2", 5]], "sent": [["STORE", "n3", True]], "ended_us": 1,
            "committed_us": 2, "sent_us": 3, "answered_us": 4,
        }],
    },
    b"STATUS": {
        "keys": 5, "hints_held": 0, "behind": {"n3": 4}, "damaged": 0, "mended": 0, "lost": 0, "disk_full": False,
        "disk_room": 0, "transfer": TRANSFER, "to_let_go": 0, "copies": {"n3": ["127.0.0.1:9"]},
        "wall_ms": 1_800_000_000_000, "unreadable": 2, "rebuild": "room on its disk", "gone_back": ["n3"],
        "taken_back": [], "aside": "data.set-back-1",
        "filling": {**dict.fromkeys(("partitions", "partitions_done", "keys", "keys_done", "percent", "bytes_sent"), 7),
                    "eta_s": 1.5},
        "failing": {"scrub": {"errors": 1, "error": "ERR damaged"}}, "internal_errors": 0,
        "held_back": {"STORE": 2},
    },
    b"VERIFY": {"state": "running", "keys": 5, "mended": 1, "lost": 0, "unreadable": 0, "waiting": 2},
    b"HINTS": {
        "hints": [{"owner": "n3", "count": 3, "bytes": 100, "oldest_s": 9}], "behind": {"n3": 4}, "delivered": 3,
    },
    b"REPAIR": {
        "state": "running", "keys_repaired": 1, "bytes_sent": 10, "keys": [[3, 10]], "missed": [[4, "n3", "lost"]],
    },
    b"TASKS": [TASK],
    b"PAUSE": [TASK],
    b"SIZES": {"keys": [4], "mean_bytes": 10.5, "busy": False},
}  # fmt: skip


def damaged_rules() -> Iterator[bytes]:
    """Returns documents of users of the right shape with a wrong rule, name or version."""
    for rules, selectors in ((["~a b"], []), (["&a\n"], []), (["#12"], []), (["allkeys", "~x"], []), (["what"], []),
                             ([], [["on"]]), ([], [["(+get)"]]), ([], [[">x"]]), (["+a b"], [])):  # fmt: skip
        yield json.dumps({**USERS, "users": {"bob": ["1", "n2", "1", rules, selectors]}}).encode()
    yield json.dumps({**USERS, "users": {"b ob": ["1", "n2", "1", None, []]}}).encode()
    yield json.dumps({**USERS, "users": {"b\u0100": ["1", "n2", "1", None, []]}}).encode()
    yield json.dumps({**USERS, "users": {"bob": [f"{COUNTER_MAX + 1:x}", "n2", "1", None, []]}}).encode()


def damaged_libraries() -> Iterator[bytes]:
    """Returns documents of libraries of the right shape with another name in the text, or a wrong text, name or flag."""
    for text in ("", "x", "#!lua\n", "#!lua name=other\n", "#!js name=lib\n", "#!lua name=lib\n\u0100"):
        yield json.dumps({**LIBRARIES, "libraries": {"lib": ["1", "n2", text, []]}}).encode()
    yield json.dumps({**LIBRARIES, "libraries": {"l-b": ["1", "n2", None, []]}}).encode()
    for function in (["f-", [], []], ["\u00ff", [], []], ["f", ["\u0100"], []], ["f", [], ["no-reads"]]):
        yield json.dumps({**LIBRARIES, "libraries": {"lib": ["1", "n2", _TEXT, [function]]}}).encode()


def damaged_numberings() -> Iterator[bytes]:
    """Returns documents of numberings of the right shape that no node makes."""
    floor, spaces, settled, swaps = row = NUMBERINGS["numberings"]["c"]
    wrong = [
        [floor, [0, 0, *range(2, 16)], settled, swaps],  # two databases in one space
        ["20", spaces, settled, swaps],  # an open swap of a version that is settled
        [floor, spaces, settled, swaps[::-1]],
        [floor, spaces, settled, [swaps[0], ["21", "n2", swaps[0][2], 0, 5]]],  # a swap that is there twice
        [floor, spaces, [swaps[0][2]], swaps],
        [floor, spaces, settled * 2, swaps],
        [floor, "n2", [0, 0, *range(2, 16)], settled],  # of the former form
        [floor, "n2", spaces, settled * 2],
        [floor, "n2", spaces, settled, swaps],
    ]
    for each in wrong:
        yield json.dumps({**NUMBERINGS, "numberings": {"c": each}}).encode()
    yield json.dumps({**NUMBERINGS, "numberings": {str(number): row for number in range(17)}}).encode()
    yield json.dumps({**NUMBERINGS, "numberings": {"c" * 257: row}}).encode()
    yield json.dumps({**NUMBERINGS, "numberings": {"\u0100": row}}).encode()


def damaged_layouts() -> list[bytes]:
    """Returns documents that are no layouts, most of them with a right checksum."""
    from server.core.ring.layout import _canonical, _checksum

    whole = layout_of().encode()
    fields = json.loads(whole)
    del fields["checksum"]
    found = [whole[:-1], whole[:40], whole.replace(b'"epoch":1', b'"epoch":3'), DEEP, b"", b"{}", b"\xff"]
    numbers = [-1, EPOCH_MAX + 1, 1 << 40, 10**40, "1", None, True, [1]]
    changed = [{"epoch": value} for value in numbers]
    changed += [{name: value} for name in ("n", "r", "w", "partitions") for value in (0, -1, 10**9, "1", None)]
    changed += [{name: -1} for name in ("revision", "progress", "merged_epoch")]
    changed += [{"revision": 1 << 40}, {"owners": []}, {"owners": [["n1", "n1", "n1"]] * 16}, {"owners": "n1"}]
    changed += [{"members": []}, {"members": [5]}, {"former": [[0, ["n1"]]]}, {"leaving": ["nobody"]}, {"phase": "x"}]
    changed += [{"log": [5]}, {"log": [{"id": "c", "kind": "weight", "node": "n2", "weight": -1}]}]
    first = fields["members"][0]
    changed += [
        {"members": [{**first, **damage}, *fields["members"][1:]]}
        for damage in ({"id": ""}, {"id": 5}, {"name": "a b"}, {"address": "x"}, {"weight": 0}, {"weight": 1 << 60})
    ]
    for name in fields:
        changed.append({name: ...})
    for change in changed:
        parts = {name: value for name, value in {**fields, **change}.items() if value is not ...}
        found.append(_canonical({**parts, "checksum": _checksum(parts)}).encode())
    return found


def next_layout(number: int) -> Layout:
    """Returns a layout that follows the one of the node under test."""
    return replace(commit(layout_of(), [Change(f"c{number}", WEIGHT, "n2", weight=number)]))


WRONG_TIMES = [b"%d" % (TIME_MS_MAX + 1), b"-1", b"x"]
