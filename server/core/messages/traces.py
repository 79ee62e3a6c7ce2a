"""How nodes follow a traced request: the envelope of its messages, and the question for what a node has noted of it.

Theory. TRACED carries another message, and says of which trace it is part and which span has sent it (core/tracing/). Only
the messages of traced requests travel so. All others stay as they are, and cost nothing more. TRACED goes only to nodes
that have announced the capability `tracing`; an older one gets the bare message.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from protocol.bounds import COUNT_MAX
from protocol.frames import encode_message
from server.core.messages.asking import Question, json_answer, write_document
from server.core.messages.kinds import Kind
from server.core.messages.reader import Reader
from server.core.messages.shapes import fields, integer, listed, nothing_or, row, text, truth

TRACE_BYTES: Final = 16  # as OpenTelemetry has it
SPAN_BYTES: Final = 8
_HEAD_ITEMS: Final = 5  # kind, clock, number, trace, span
_LINE_END: Final = b"\r\n"


class Traced(NamedTuple):
    """A message of a traced request, and the span that has sent it."""

    trace: bytes
    span: bytes
    message: list[Any]


def _traced(items: Reader) -> Traced:
    return Traced(items.data(TRACE_BYTES, TRACE_BYTES), items.data(SPAN_BYTES, SPAN_BYTES), items.message())


TRACED: Final = Kind(b"TRACED", _traced)  # the message inside is read in incoming.py


def encode_traced(reading: int, trace: bytes, span: bytes, message: bytes) -> bytes:
    """Encodes TRACED: the items of `message`, an encoded one, follow those of the envelope."""
    head = encode_message((b"TRACED", reading, 0, trace, span))
    items_at = message.index(_LINE_END)
    count = int(message[1:items_at]) + _HEAD_ITEMS
    return b"*%d%b%b" % (count, head[head.index(_LINE_END) : -len(_LINE_END)], message[items_at:])


def kind_of(message: bytes) -> str:
    """Returns the name of the kind of an encoded message."""
    return message.split(_LINE_END, 3)[2].decode()


_TIME = integer(COUNT_MAX)
_TURN = fields(
    {
        "begun_us": _TIME,
        "received": listed(row(text, text, _TIME)),
        "sent": listed(row(text, text, truth)),
        **dict.fromkeys(("ended_us", "committed_us", "sent_us", "answered_us"), nothing_or(_TIME)),
    }
)
_SPAN = fields({"id": text, "parent": text, "turns": listed(_TURN)})
TRACE: Final[Question[bytes, dict[str, Any]]] = Question(
    b"TRACE",
    lambda trace: [trace],
    lambda items: items.data(TRACE_BYTES, TRACE_BYTES),
    write_document,
    json_answer(_SPAN),
)
