"""Divides the file descriptors of this process: storage and peers have fixed shares, and clients get the rest.

Theory. If there is no descriptor for a client, the client gets an error and tries again. If there is none for RocksDB, the
node ends. So each purpose has its own share, and the number of clients is reduced to what is left, as in Redis:

| share | how many | held by |
|---|---|---|
| process | `PROCESS_FILES` | standard streams, event loop, listening sockets, lock of the directory |
| arrivals | `ARRIVAL_FILES` | surplus connections, until they have their error (clients.py) |
| handshakes | a 64th, `HANDSHAKE_FILES_MIN` to `HANDSHAKE_FILES_MAX` | connections that may become a node's (proving.py) |
| peers | two for each of `peers_max`, a sixteenth at most | a connection in each direction (inbound.py) |
| storage | a quarter, `STORAGE_FILES_MIN` to `STORAGE_FILES_MAX` | sorted files, logs (storage/rocksdb.py) |
| clients | the rest, `clients_max` at most | one connection each |

A cluster of more than 16 nodes needs more than `PEER_FILES_MIN` for its peers, so a limit above 512.

The quarter and the sixteenth are of all files that are allowed (the hard limit, `ulimit -Hn`).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from dataclasses import dataclass

log = logging.getLogger("dyn")
PROCESS_FILES = 24
ARRIVALS_MAX = 8  # connections over the limit of clients that may still turn out to be a peer's
ARRIVAL_FILES = 3 * ARRIVALS_MAX  # for these, and for further ones that are being closed
HANDSHAKE_FILES_MIN, HANDSHAKE_FILES_MAX = 8, 64
PEER_FILES_MIN = 32
STORAGE_FILES_MIN, STORAGE_FILES_MAX = 128, 4096
KEEPALIVE_S_MAX = 32_767  # as far as the kernel counts
CLIENTS_MIN = 8  # with fewer a node is of no use


class TooFewFiles(OSError):
    """The hard limit on open files is too low to run a node."""


@dataclass(frozen=True, slots=True)
class FileShares:
    """How many files clients, storage, peers and handshakes may have open, and how many the process needs in all."""

    clients: int
    storage: int
    peers: int
    handshakes: int
    total: int


def share_files(allowed: int, clients_max: int, peers_max: int) -> FileShares:
    """Returns the shares of `allowed` files, for `clients_max` clients and `peers_max` peers or as many as are possible.
    Raises TooFewFiles."""
    storage = min(STORAGE_FILES_MAX, max(STORAGE_FILES_MIN, allowed // 4))
    peers = max(PEER_FILES_MIN, min(2 * peers_max, allowed // 16))
    handshakes = min(HANDSHAKE_FILES_MAX, max(HANDSHAKE_FILES_MIN, allowed // 64))
    reserved = PROCESS_FILES + ARRIVAL_FILES + handshakes + peers + storage
    clients = min(clients_max, allowed - reserved)
    if clients < min(clients_max, CLIENTS_MIN):
        needed = PROCESS_FILES + ARRIVAL_FILES + HANDSHAKE_FILES_MIN + PEER_FILES_MIN + STORAGE_FILES_MIN + CLIENTS_MIN
        raise TooFewFiles(
            f"this process may open {allowed} files, and a node needs {needed} at least: raise the hard limit "
            "(`ulimit -Hn`, LimitNOFILE of systemd)"
        )
    return FileShares(clients, storage, peers, handshakes, clients + reserved)


def allow_files(clients_max: int, peers_max: int) -> FileShares:
    """Raises the soft limit on open files to what the shares need, as a login shell's is low. Raises TooFewFiles."""
    shares, hard = _raise_limit(clients_max, peers_max)
    if shares.clients < clients_max:
        log.warning(
            "this node serves %d clients at a time, not clients_max=%d: it may open %d files (ulimit -Hn), of which %d are "
            "kept for storage and %d for peers and the process itself",
            shares.clients, clients_max, hard, shares.storage, shares.total - shares.clients - shares.storage,
        )  # fmt: skip
    return shares


def room_for_clients(clients_max: int, peers_max: int) -> int:
    """How many of so many clients a running node may have; the soft limit is raised for them. 0: too few to be of use."""
    try:
        return _raise_limit(clients_max, peers_max)[0].clients
    except TooFewFiles:
        return 0


def _raise_limit(clients_max: int, peers_max: int) -> tuple[FileShares, int]:
    """Returns the shares, and the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = clients_max + (STORAGE_FILES_MAX + 2 * peers_max) * 16
    shares = share_files(unlimited if hard == resource.RLIM_INFINITY else hard, clients_max, peers_max)
    if soft != resource.RLIM_INFINITY and soft < shares.total:
        resource.setrlimit(resource.RLIMIT_NOFILE, (shares.total, hard))
    return shares, hard


def keep_alive(listener: asyncio.Server, silence_ms: int) -> None:
    """Has the kernel probe connections that are silent for so long, at a third of that interval, and close one after three
    missed probes: a client that lost its power or network never closes, and would hold a descriptor for ever.

    Accepted connections inherit these options.
    """
    silence_s = min(max(1, silence_ms // 1000), KEEPALIVE_S_MAX)
    for listening in listener.sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, silence_s)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, silence_s // 3))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
