"""A process before a node that holds back what other nodes send to it: a link with a delay, without a word to the kernel.

The node tells others the address of this process as its own (`--advertise`). What it sends itself goes by connections of
its own, so a question to it is late by one delay.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

READ_BYTES = 1 << 18
STEP_S = 1e-6


class _Delay:
    """Forwards connections; `seconds` is how long bytes are held back."""

    def __init__(self, node_port: int) -> None:
        self.seconds = 0.0
        self._node_port = node_port

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards a connection until one side closes."""
        try:
            ahead = await asyncio.open_connection("127.0.0.1", self._node_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._forward(reader, ahead[1], True), self._forward(ahead[0], writer, False))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_delayed: bool) -> None:
        loop, last_s = asyncio.get_running_loop(), 0.0
        try:
            while data := await reader.read(READ_BYTES):
                # Bytes stay in order, which the loop does not promise for two calls at the same time.
                last_s = max(last_s + STEP_S, loop.time() + (self.seconds if is_delayed else 0.0))
                loop.call_at(last_s, writer.write, data)
        except ConnectionError:
            pass
        loop.call_at(last_s + STEP_S, writer.close)


def _process(port: int, node_port: int, pipe: Pipe) -> None:
    asyncio.run(_serve(port, node_port, pipe))


async def _serve(port: int, node_port: int, pipe: Pipe) -> None:
    delay = _Delay(node_port)

    def change() -> None:
        try:
            delay.seconds = pipe.recv()
        except EOFError:
            os._exit(0)  # the other end is gone; what is on its way does not matter any more

    async with await asyncio.start_server(delay.accept, "127.0.0.1", port) as server:
        asyncio.get_running_loop().add_reader(pipe.fileno(), change)
        pipe.send("ready")
        await server.serve_forever()


@contextmanager
def delaying(port: int, node_port: int) -> Iterator[Any]:
    """Connections to `port` go to `node_port`. Send the yielded pipe the delay in seconds, which is 0 at first."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_process, args=(port, node_port, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield ours
    finally:
        ours.close()
        process.join()
