"""The end of what a client sends: it may still read, as `printf 'GET k\\r\\n' | nc -N HOST PORT` does.

Theory. That the stream ends says only that no more commands come. The client may wait for replies, or have closed after
commands whose replies it does not want (CLIENT REPLY OFF). So what it has sent is carried out and answered first, as Redis
does it, and then the connection is closed. A client that waits for what others do (a blocking command, subscriptions,
MONITOR) is taken to have gone, because the connection of a process that has died ends in the same way. A later blocking
command that finds an element pops it, and its reply counts as any other. With TLS the end of the stream ends the
connection.

Whether all is answered is looked at after `LOOK_S`, then after twice that time and so on, and what is still open
after `OPEN_S` is cut. So commands cost nothing more, and 10,000 such clients, which read nothing, cost little.
"""

from __future__ import annotations

import asyncio

from server.shell.client import Client

LOOK_S = 0.005
LOOK_S_MAX = 1.0
OPEN_S = 60.0


def is_to_be_served(client: Client) -> bool:
    """Whether the connection of a client that sends no more has to stay open for what it has sent."""
    session = client.session
    if client.transport.is_closing() or client.secret:
        return False
    if session.is_waiting or session.subscriber is not None or session.is_monitor:
        return False
    return not client.is_idle() or client.is_queued or client.transport.get_write_buffer_size() > 0


def serve_rest(loop: asyncio.AbstractEventLoop, client: Client) -> bool:
    """The client sends no more. Returns whether its connection stays open; then it is closed once all is answered."""
    if not is_to_be_served(client):
        return False
    loop.call_later(LOOK_S, _look, loop, client, loop.time() + OPEN_S, 2 * LOOK_S)
    return True


def _look(loop: asyncio.AbstractEventLoop, client: Client, until_s: float, next_s: float) -> None:
    if not is_to_be_served(client):
        client.transport.close()
    elif loop.time() < until_s:
        loop.call_later(next_s, _look, loop, client, until_s, min(2 * next_s, LOOK_S_MAX))
    else:
        client.transport.abort()
