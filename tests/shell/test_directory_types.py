"""A node.json that somebody has edited: what is wrong is named, and nothing starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.shell.directory import DirectoryError, IdentityOptions, open_directory

RIGHT = {"id": "a" * 40, "name": "n1", "address": "127.0.0.1:7001", "zone": "z", "weight": 1, "seeds": ["h:1"]}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("value", [None, True, 1.5, {"a": 1}])
def test_a_wrong_type_is_named(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / "node.json").write_text(json.dumps(RIGHT))
    assert open_directory(tmp_path, IdentityOptions())[0].name == "n1"
    (tmp_path / "node.json").write_text(json.dumps(RIGHT | {name: value}))
    with pytest.raises(DirectoryError, match=f"node.json: '{name}' must be"):
        open_directory(tmp_path, IdentityOptions())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "is not JSON (byte 0 is not UTF-8): restore it"),
        (b"[]", "does not hold a node's identity"),
        (b'{"id":\n "x', "is not JSON (line 2, column 2): restore it"),
        (b"", "is not JSON (line 1, column 1): restore it"),
        (b"[" * 200_000, "is not JSON (too many brackets within brackets): restore it"),
        (b"9" * 5000, "is not JSON (a number in it is too long): restore it"),
    ],
)
def test_what_is_no_document_is_told_without_words_of_python(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "node.json").write_bytes(data)
    with pytest.raises(DirectoryError) as error:
        open_directory(tmp_path, IdentityOptions())
    assert str(error.value).startswith(f"{tmp_path / 'node.json'} {words}")


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [("address", "x", "listen"), ("address", "h:\u00b2", "listen"), ("address", "h:" + "9" * 5000, "listen"),
     ("advertise", "h:0", "advertise"), ("seeds", ["h:1", 5], "seeds")],
)  # fmt: skip
def test_what_is_no_address_is_named_and_an_option_overrides_it(
    tmp_path: Path, name: str, value: Any, option: str
) -> None:
    (tmp_path / "node.json").write_text(json.dumps(RIGHT | {name: value}))
    with pytest.raises(DirectoryError, match=f"which is not HOST:PORT: restore it, or give --{option}"):
        open_directory(tmp_path, IdentityOptions())
    given = IdentityOptions(listen="h:1", advertise="h:1", seeds=("h:1",))
    assert open_directory(tmp_path, given)[0].address == "h:1"
