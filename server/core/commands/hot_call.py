"""Calls the handler of a hot command.

To call a function that a variable holds, compiled code makes an object of each argument and looks at each again in the
function. To call a function by its name costs nothing of that. So the hottest handler, that of SET, is called by its name.
"""

from __future__ import annotations

from typing import Final

from server.core.base.sinks import Sink
from server.core.commands.spec import Handler
from server.core.commands.strings import set_
from server.core.services.services import Services

_SET: Final[Handler] = set_


def call_hot(services: Services, handler: Handler, sink: Sink, number: int, args: list[bytes]) -> None:
    """HOT. Runs `handler` for a call in its usual form, which it answers through the sink (spec.py)."""
    if handler is _SET:
        set_(services, sink, number, args)
    else:
        handler(services, sink, number, args)
