"""provisional"""

from __future__ import annotations
import base64, json


class BadContext(Exception):
    pass


def encode_context(key, clock):
    return base64.urlsafe_b64encode(json.dumps([(a.hex(), c) for a, c in clock]).encode()).rstrip(b"=")


def decode_context(key, token):
    try:
        return tuple(
            (bytes.fromhex(a), c) for a, c in json.loads(base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4)))
        )
    except Exception as e:
        raise BadContext(str(e))
