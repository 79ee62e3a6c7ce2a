"""JSON is bounded in size and depth before it is parsed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.json_documents import DEPTH_MAX, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("[]{}\"\\aé\n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("[{\"\\", max_size=3), inner, max_size=3),
)  # fmt: skip


@given(VALUES, st.integers(0, 40))
def test_a_document_is_taken_if_it_is_not_nested_too_deeply(value: object, deeper: int) -> None:
    """Brackets in strings do not count."""
    document = json.dumps([value, ["x"] * 50]).encode()
    document = b"[" * deeper + document + b"]" * deeper
    if _depth(json.loads(document)) <= DEPTH_MAX:
        assert parse(document, 1 << 20) == json.loads(document)
    else:
        with pytest.raises(ValueError, match="nested deeper"):
            parse(document, 1 << 20)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"\xff", b"NaN",
        b"[1e400, Infinity]", b"{", b"", b"[]" * 50, b'"' * 99, b"[" * 40 + b"9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_document_raises_only_value_errors(document: bytes) -> None:
    with pytest.raises(ValueError):
        parse(document, 1 << 24)


def test_a_document_that_is_too_long() -> None:
    assert parse(b"[1, 2]", 6) == [1, 2]
    with pytest.raises(ValueError, match="7 bytes"):
        parse(b"[1, 22]", 6)
