"""Certificates and clusters for the tests of TLS."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dynamo_cli.certificates import LOCAL_HOSTS, make
from tests.ports import free_ports
from tests.wire.cluster import WireCluster

Cluster = tuple[WireCluster, Path, list[int]]


def certificates(directory: Path) -> Path:
    """A directory with ca.crt, node.crt and alice.crt, and their keys."""
    make(directory, "node", LOCAL_HOSTS, 60)
    make(directory, "alice", (), 60)
    return directory


def settings_of(directory: Path, **more: Any) -> str:
    """The text of a file of settings with these certificates and further settings."""
    names = {"tls_ca_file": directory / "ca.crt", "tls_cert_file": directory / "node.crt",
             "tls_key_file": directory / "node.key"}  # fmt: skip
    lines = [f'{name} = "{path}"' for name, path in names.items()]
    lines += [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in more.items()]
    return "\n".join(lines) + "\n"


def tls_cluster(directory: Path, nodes: int = 3, apart: bool = False, **settings: Any) -> Cluster:
    """A cluster whose nodes take TLS on ports of their own: the cluster, the certificates, the ports.

    `apart`: each node has copies of its own, in a directory with its name beside them.
    """
    home = certificates(directory / "certificates")
    cluster = WireCluster(directory / "cluster", nodes=nodes, config=settings_of(home, **settings))
    first = free_ports(nodes)
    ports = [first + place for place in range(nodes)]
    for node, port in zip(cluster.nodes, ports, strict=True):
        node._options = [*node._options, "--set", f"tls_port={port}"]
        if apart:
            own = home / node.name
            shutil.copytree(home, own, ignore=shutil.ignore_patterns("n[0-9]*"))
            (own / "settings.toml").write_text(settings_of(own, **settings))
            place = node._options.index("--config")
            node._options[place + 1] = str(own / "settings.toml")
    try:
        cluster.form()
    except BaseException:
        cluster.dispose()
        raise
    return cluster, home, ports


def client_settings(home: Path, name: str = "") -> ssl.SSLContext:
    """What a client needs to connect to these nodes, with the certificate of `name` if it is given."""
    settings = ssl.create_default_context(cafile=home / "ca.crt")
    if name:
        settings.load_cert_chain(home / f"{name}.crt", home / f"{name}.key")
    return settings


@contextmanager
def encrypted(port: int, settings: ssl.SSLContext, timeout_s: float = 20.0) -> Iterator[ssl.SSLSocket]:
    """A connection by TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout_s) as connection,
        settings.wrap_socket(connection, server_hostname="localhost") as secure,
    ):
        yield secure


def hello(settings: ssl.SSLContext | None = None) -> bytes:
    """The first bytes of a handshake."""
    settings = settings or ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    talk = settings.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()
