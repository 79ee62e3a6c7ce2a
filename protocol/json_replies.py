"""Replies as JSON: text where the bytes are UTF-8, else {"base64": …}; an error is {"error": …}."""

from __future__ import annotations

import base64
from typing import Any

import hiredis


def as_json(reply: bytes) -> Any:
    """The value of one encoded reply."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return _value(reader.gets())


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, hiredis.ReplyError):
        return {"error": str(value)}
    if isinstance(value, dict):
        return [[_value(key), _value(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(item) for item in value]
    return value
