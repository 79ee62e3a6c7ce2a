"""A node that only pretends: enough of the wire for `dyn up` and `dyn down`, in a process that starts at once.

Run as `fake_node.py BEHAVIOUR` and the options of `python -m server`. Fake nodes of one cluster share what INIT said
through the file `layout` in the directory above `--dir`, as gossip would. Behaviours: `good`; `dies` (says why and ends
with status 7 before it listens); `mute` (accepts, never answers); `stubborn` (ignores SIGTERM); `unhealthy` (holds
all nodes for down); `repairing` (holds them for up, and the cluster for degraded); `grown` (a member more, elsewhere, is
down); `left` (is a member no more).
"""

import json
import os
import signal
import socketserver
import sys
from pathlib import Path
from typing import Any

BEHAVIOUR = sys.argv[1]
OPTIONS = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
DIRECTORY = Path(OPTIONS["--dir"])
LAYOUT = DIRECTORY.parent / "layout"


def _members() -> list[dict[str, Any]]:
    return list(json.loads(LAYOUT.read_text())["members"]) if LAYOUT.exists() else []


def _document(words: list[bytes]) -> dict[str, Any]:
    members = _members()
    if words[1] == b"INIT":
        draft = LAYOUT.with_name("layout.new")
        draft.write_bytes(words[2])
        os.replace(draft, LAYOUT)
        return {"epoch": 1, "cluster": "c1"}
    if words[1] == b"MYSELF":
        name, address = OPTIONS["--name"], OPTIONS["--listen"]
        identity = {"id": f"id-{name}", "name": name, "address": address, "zone": OPTIONS["--zone"], "weight": 1}
        if BEHAVIOUR == "left":
            return identity | {"epoch": 0, "cluster": "", "left": 3}
        return identity | {"epoch": 1 if members else 0, "cluster": "c1" if members else ""}
    verdict = "degraded" if BEHAVIOUR in ("unhealthy", "repairing", "grown") else "healthy"
    state = "down" if BEHAVIOUR == "unhealthy" else "up"
    nodes = [{"name": member["name"], "state": state} for member in members]
    nodes += [{"name": "n9", "state": "down"}] if BEHAVIOUR == "grown" else []
    return {"epoch": 1, "verdict": verdict, "summary": "as told", "nodes": nodes}


class Handler(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        while header := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(header[1:]))]
            if BEHAVIOUR == "mute":
                continue
            if words[0] == b"PING":
                self.wfile.write(b"+PONG\r\n")
            elif BEHAVIOUR == "left" and words[1] == b"STATUS":
                self.wfile.write(b"-CLUSTERDOWN node n2 has left its cluster at epoch 3: use another node\r\n")
            else:
                body = json.dumps(_document(words)).encode()
                self.wfile.write(b"$%d\r\n%b\r\n" % (len(body), body))


class Server(socketserver.ThreadingTCPServer):
    """A thread a client."""

    allow_reuse_address = True
    daemon_threads = True


def _end(number: int, frame: object) -> None:
    print("ended as told", flush=True)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN if BEHAVIOUR == "stubborn" else _end)
    (DIRECTORY / "argv").write_text("\n".join(sys.argv[2:]))
    if BEHAVIOUR == "dies":
        print("the disk is on fire", flush=True)
        sys.exit(7)
    print("serves", flush=True)
    host, _, port = OPTIONS["--listen"].rpartition(":")
    Server((host, int(port)), Handler).serve_forever()
