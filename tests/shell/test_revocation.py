"""Revoked certificates: who is refused, when the list is read again, and what the status says before it is out of date."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import pytest

from dynamo_cli.certificates import LOCAL_HOSTS, make, revoke
from server.core.base.config import Config, ConfigError
from server.shell.certificates import WARN_CRL_DAYS, Certificates


def certificates_of(directory: Path) -> Certificates:
    files = {"ca": "ca.crt", "cert": "node.crt", "key": "node.key", "crl": "ca.crl"}
    settings = {f"tls_{kind}_file": str(directory / name) for kind, name in files.items()}
    return Certificates(Config.of({"engine": "memory", "tls_client_certificates": "required", **settings}))


def refusal(certificates: Certificates, directory: Path, name: str) -> str:
    """Why the server refuses the client's certificate of that name; empty if it does not."""
    client = ssl.create_default_context(cafile=directory / "ca.crt")
    client.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = certificates.for_server().wrap_bio(ways[0], ways[1], server_side=True)
    there = client.wrap_bio(ways[1], ways[0], server_hostname="localhost")
    waiting = [there, here]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
    return ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a CA, a node, two clients, and an empty list."""
    make(tmp_path, "node", LOCAL_HOSTS, 60)
    for name in ("alice", "bob"):
        make(tmp_path, name, (), 60)
    revoke(tmp_path, (), 30)
    return tmp_path


def test_a_revoked_certificate_is_refused_once_the_list_has_changed(home: Path) -> None:
    certificates = certificates_of(home)
    assert not refusal(certificates, home, "alice") and not refusal(certificates, home, "bob")
    revoke(home, ["alice"], 30)
    certificates.look()
    assert refusal(certificates, home, "alice") == "certificate revoked"
    assert not refusal(certificates, home, "bob")
    revoke(home, ["bob"], 30)
    certificates.look()
    assert refusal(certificates, home, "alice") == refusal(certificates, home, "bob") == "certificate revoked"
    make(home, "alice", (), 60)
    assert not refusal(certificates, home, "alice"), "a new certificate of hers is another one"


def test_links_refuse_a_revoked_node(home: Path) -> None:
    certificates = certificates_of(home)
    revoke(home, ["node"], 30)
    certificates.look()
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home / "node.crt", home / "node.key")
    here, there = server.wrap_bio(ways[0], ways[1], True), certificates.for_client().wrap_bio(ways[1], ways[0])
    for end in (there, here):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        there.do_handshake()


def test_the_status_warns_before_the_list_is_out_of_date(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = certificates_of(home)
    assert certificates.warning() == ""
    revoke(home, (), WARN_CRL_DAYS)
    certificates.look()
    assert "its list of revoked certificates is valid for 2 days: renew" in certificates.warning()
    assert not certificates.is_urgent()
    later_s = time.time() + (WARN_CRL_DAYS + 1) * 86_400
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert "OUT OF DATE" in certificates.warning() and certificates.is_urgent()


def test_a_list_that_cannot_be_used(home: Path) -> None:
    certificates = certificates_of(home)
    revoke(home, ["alice"], 30)
    (home / "ca.crl").write_text("nonsense")
    certificates.look()
    assert "ca.crl" in certificates.warning() and not refusal(certificates, home, "bob"), "the former one stays in use"
    with pytest.raises(ConfigError, match=r"ca\.crl"):
        certificates_of(home)
    os.remove(home / "ca.crl")
    with pytest.raises(ConfigError, match=r"ca\.crl: No such file"):
        certificates_of(home)
    with pytest.raises(ConfigError, match="needs tls_ca_file"):
        Config.of({"tls_crl_file": "x", "tls_cert_file": "a", "tls_key_file": "b"})
