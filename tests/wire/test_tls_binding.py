"""Nodes' proofs over TLS are bound to the certificate of the connection, and blocks are not sealed again."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import pytest

from protocol import resp
from protocol.handshake import Initiator
from tests.ports import free_ports
from tests.wire.cluster import SECRET, WireCluster, dyn, wait_for
from tests.wire.peering import read_line


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A directory with a CA and the certificate of 127.0.0.1."""
    made = dyn("tls", "make", "--dir", tmp_path / "certs", "--host", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    return tmp_path / "certs"


def _options(certificates: Path, port: int) -> str:
    (certificate,) = [path for path in certificates.glob("*.crt") if path.name != "ca.crt"]
    files = {"tls_cert_file": certificate, "tls_key_file": certificate.with_suffix(".key")}
    return f"tls_port = {port}\n" + "".join(f'{name} = "{path}"\n' for name, path in files.items())


def test_a_proof_that_was_made_for_another_certificate_is_refused(tmp_path: Path, certificates: Path) -> None:
    port = free_ports(1)
    cluster = WireCluster(tmp_path / "cluster", nodes=1, config=_options(certificates, port))
    (node,) = cluster.nodes
    settings = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    try:
        node.start()
        wait_for(node.serves, "it serves")
        for is_bound in (True, False):
            with (
                socket.create_connection(("127.0.0.1", port), 20) as raw,
                settings.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
            ):
                channel = connection.getpeercert(True) if is_bound else b"the certificate of a man in the middle"
                assert channel is not None
                initiator = Initiator((SECRET,), os.urandom(32), channel)
                connection.sendall(initiator.hello)
                proof = initiator.prove(read_line(connection))
                assert (initiator.session is not None) == is_bound
                connection.sendall(proof)
                if is_bound:
                    assert initiator.session is not None and initiator.session.sealer is None
                    connection.sendall(resp.command("DYN.PEER", 1, "", "e" * 40, 1))
                    assert read_line(connection) == b"+OK\r\n", "in the clear within TLS"
                else:
                    assert read_line(connection).startswith(b"-NOPROOF ")
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()
