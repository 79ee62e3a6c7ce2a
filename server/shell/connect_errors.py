"""Why a connection to another node could not be made, in words for the log and the status."""

from __future__ import annotations

import errno
import socket

from server.core.membership.addresses import STOPPED, UNREACHABLE, UNRESOLVED


def trouble_of(error: OSError | TimeoutError) -> tuple[str, str]:
    """Returns why a connection could not be made: a kind and a text. asyncio joins the errors of a name's addresses."""
    if isinstance(error, socket.gaierror):
        return UNRESOLVED, f"its host name leads to no address: {error.strerror}"
    text = str(error)
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in text:
        return STOPPED, "nothing listens there: connection refused"
    if isinstance(error, TimeoutError):
        return UNREACHABLE, "its address does not answer"
    return UNREACHABLE, f"its address cannot be reached: {error.strerror or text}"
