"""The fields that a node's document must have, so that showing it cannot fail.

A command checks only the fields that it needs: further fields are for later releases. A document that does not fit comes
from something that is no dyn node, or from another release; the error names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamo_cli.client import Client

Shape = Mapping[str, type | tuple[type, ...]]
Document = dict[str, Any]


def ask(client: Client, shape: Shape, *command: bytes | str | int, writes: bool = False) -> Document:
    """The document that answers an operator's command of at least two words.

    Raises as `Client.call`, and Failure for a document without the fields of `shape`.
    """
    document = client.document(*command, writes=writes)
    require(client, f"{command[0]!s} {command[1]!s}", document, shape)
    return document


def require(client: Client, name: str, document: Any, shape: Shape) -> None:
    """Raises Failure unless `document`, a part of the answer to `name`, has the fields of `shape`."""
    if not isinstance(document, dict):
        raise client.nonsense(name, f"{document!r}")
    for field, kind in shape.items():
        if not isinstance(document.get(field), kind):
            raise client.nonsense(name, f"a document without {field}")
