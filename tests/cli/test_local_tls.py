"""`dyn up --tls`, `dyn tls make` and `dyn key make`: which files there are, who may read them, which ports nodes get."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import Result

from dynamo_cli.cluster_file import UpOptions, load, plan
from dynamo_cli.local_cluster import node_argv
from dynamo_cli.local_tls import ca_of, with_tls
from server.storage.keyring import read_keys

Dyn = Callable[..., Result]


def test_up_gives_each_node_a_port_of_its_own_and_all_one_certificate(tmp_path: Path) -> None:
    cluster = with_tls(plan(tmp_path / "d", UpOptions(nodes=3, base_port=8001)))
    words = [node_argv(cluster, node) for node in cluster.nodes]
    assert [f"tls_port={port}" in argv for port, argv in zip((8101, 8102, 8103), words, strict=True)] == [True] * 3
    home = cluster.directory / "tls"
    assert all(f"tls_cert_file={home / 'node.crt'}" in argv and "tls_peers=yes" in argv for argv in words)
    assert ca_of(cluster) == (8101, home / "ca.crt")
    certificate = (home / "node.crt").read_bytes()
    cluster.save()
    again = with_tls(plan(tmp_path / "d", UpOptions()))
    assert again.settings == cluster.settings and (home / "node.crt").read_bytes() == certificate
    stored = load(tmp_path / "d")
    assert stored is not None and stored.settings == cluster.settings, "the next start needs no --tls"


def test_settings_that_were_given_stay(tmp_path: Path) -> None:
    cluster = with_tls(plan(tmp_path / "d", UpOptions(nodes=2, settings={"tls_port": "9500", "tls_peers": "no"})))
    assert "tls_port=9501" in node_argv(cluster, cluster.nodes[1]) and "tls_peers=no" in node_argv(
        cluster, cluster.nodes[0]
    )


def test_keys_are_for_their_owner_only(tmp_path: Path, dyn: Dyn) -> None:
    home = tmp_path / "certs"
    done = dyn(None, "tls", "make", "--dir", str(home), "--host", "n1.example", "--host", "10.0.0.7", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "ca": str(home / "ca.crt"),
        "certificates": [{"cert": str(home / "node.crt"), "key": str(home / "node.key")}],
    }
    assert dyn(None, "tls", "make", "--dir", str(home), "--client", "alice", "--client", "bob").exit_code == 0
    keys = sorted(path.name for path in home.glob("*.key"))
    assert keys == ["alice.key", "bob.key", "ca.key", "node.key"]
    assert all((home / key).stat().st_mode & 0o777 == 0o600 for key in keys)
    context = ssl.create_default_context(cafile=home / "ca.crt")
    for name in ("node", "alice", "bob"):
        context.load_cert_chain(home / f"{name}.crt", home / f"{name}.key")  # they belong together


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--client", "a", "--host", "b"), "--host is for nodes"),
        (("--client", "../a"), "cannot be the name"),
        (("--name", "ca"), "cannot be the name"),
    ],
)
def test_wrong_usage(tmp_path: Path, dyn: Dyn, words: tuple[str, ...], error: str) -> None:
    done = dyn(None, "tls", "make", "--dir", str(tmp_path / "certs"), *words)
    assert done.exit_code == 2 and error in done.stderr and not list(tmp_path.iterdir())


def test_a_ca_without_its_key_is_not_replaced(tmp_path: Path, dyn: Dyn) -> None:
    assert dyn(None, "tls", "make", "--dir", str(tmp_path)).exit_code == 0
    (tmp_path / "ca.key").unlink()
    before = (tmp_path / "ca.crt").read_bytes()
    done = dyn(None, "tls", "make", "--dir", str(tmp_path))
    assert done.exit_code == 1 and "ca.key is missing" in done.stderr and (tmp_path / "ca.crt").read_bytes() == before


def test_a_key_is_added_behind_those_that_are_there(tmp_path: Path, dyn: Dyn) -> None:
    file = tmp_path / "keys"
    made = [json.loads(dyn(None, "key", "make", "--file", str(file), "--json").stdout)["id"] for _ in range(2)]
    ring = read_keys(file)
    assert [key.hex() for key in ring.keys] == made and ring.current.hex() == made[1]
    assert len(set(ring.keys.values())) == 2 and file.stat().st_mode & 0o777 == 0o600
    refused = dyn(None, "key", "make", "--file", str(tmp_path / "no" / "keys"))
    assert refused.exit_code == 1 and "No such file" in refused.stderr


def test_certificates_are_revoked_one_after_the_other(tmp_path: Path, dyn: Dyn) -> None:
    home = tmp_path / "certs"
    assert "has no CA" in dyn(None, "tls", "revoke", "--dir", str(home), "alice").stderr
    assert dyn(None, "tls", "make", "--dir", str(home), "--client", "alice", "--client", "bob").exit_code == 0
    for name in ("alice", "bob", "alice"):
        done = dyn(None, "tls", "revoke", "--dir", str(home), name, "--days", "7", "--json")
        assert json.loads(done.stdout) == {"crl": str(home / "ca.crl"), "revoked": [name], "days": 7}
    listed = x509.load_pem_x509_crl((home / "ca.crl").read_bytes())
    numbers = [x509.load_pem_x509_certificate((home / f"{name}.crt").read_bytes()) for name in ("alice", "bob")]
    assert [each.serial_number for each in listed] == [each.serial_number for each in numbers]
    unknown = dyn(None, "tls", "revoke", "--dir", str(home), "carol")
    assert unknown.exit_code == 1 and "carol.crt" in unknown.stderr
    (home / "ca.crl").write_text("nonsense")
    assert "cannot read" in dyn(None, "tls", "revoke", "--dir", str(home), "alice").stderr
