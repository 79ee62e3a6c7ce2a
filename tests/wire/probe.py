"""A client that measures what it is to be a neighbour: `python -m tests.wire.probe PORT…` until its input ends.

It asks each node in turn, one request at a time, and looks now and then whom they hold for down or suspect. It says `ready`
when it begins, and prints one JSON document at the end: how long its requests took, which failed, who was suspected.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Sequence

import redis

from tests.wire.cluster import connect

PAUSE_S = 0.004
LOOK_EVERY = 25  # requests


def main(ports: Sequence[int]) -> None:
    """Probes until the standard input is closed."""
    clients = [connect(port) for port in ports]
    took_ms: list[float] = []
    errors: list[str] = []
    suspected: dict[str, None] = {}
    count = 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        client, key = clients[count % len(clients)], f"probe:{count % 100}"
        count += 1
        began_s = time.monotonic()
        try:
            if count // len(clients) % 2:
                client.set(key, count)
            else:
                client.get(key)
        except redis.RedisError as error:
            errors.append(str(error))
        took_ms.append(1000 * (time.monotonic() - began_s))
        if count % LOOK_EVERY == 0:
            for node in json.loads(client.execute_command("DYN.CLUSTER", "STATUS"))["nodes"]:
                if node["state"] != "up":
                    suspected[node["name"]] = None
    took_ms = sorted(took_ms) or [0.0]
    report = {
        "requests": count,
        "p50_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[len(took_ms) * 99 // 100],
        "worst_ms": took_ms[-1],
        "errors": errors,
        "suspected": list(suspected),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
