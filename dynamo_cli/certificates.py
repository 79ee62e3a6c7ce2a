"""Makes a CA and the certificates that it signs, for tests and for clusters that have no CA of their own.

Theory. A cluster needs one CA, a certificate for each node that names the hosts by which clients find it, and, if clients
shall prove who they are, one for each of them whose common name is the user. Keys are P-256. A certificate of a client may
not be shown by a server, so that nobody becomes a node with it (server/shell/certificates.py).

The key is written before its certificate, each by renaming a whole file, mode 600 from its first byte: a node that reads
the pair in between keeps the former one, and tries again.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dynamo_cli.failures import Failure
from dynamo_cli.replaced_files import replaceable

CA = "ca"
CA_DAYS = 3650
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_BACKDATED = datetime.timedelta(minutes=5)  # for clocks that are a little behind


def make(directory: Path, name: str, hosts: Sequence[str], days: int) -> tuple[Path, Path]:
    """Writes NAME.crt and NAME.key, signed by the CA of the directory, which is made if there is none; returns their paths.

    With `hosts` it is a node's certificate, else a client's whose common name is `name`. Raises Failure.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        authority, authority_key = _authority(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        certificate = (
            _builder(name, authority.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([*purposes, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host_name(host) for host in hosts])
            certificate = certificate.add_extension(names, critical=False)
        return _write(directory, name, certificate.sign(authority_key, hashes.SHA256()), key)
    except OSError as error:
        raise Failure(f"cannot write certificates to {directory}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"cannot make a certificate with the CA in {directory}: {error}") from None


def revoke(directory: Path, names: Sequence[str], days: int) -> Path:
    """Adds the certificates NAME.crt of the directory to the CA's list of revoked ones, ca.crl, and returns its path.

    Without names the list is only made anew, valid for `days` from now on. Raises Failure.
    """
    path = directory / f"{CA}.crl"
    try:
        if not (directory / f"{CA}.crt").exists():
            raise Failure(f"{directory} has no CA: {CA}.crt is missing")
        authority, key = _authority(directory)
        revoked = list(x509.load_pem_x509_crl(path.read_bytes())) if path.exists() else []
        now = datetime.datetime.now(datetime.UTC)
        for name in names:
            certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
            if all(each.serial_number != certificate.serial_number for each in revoked):
                builder = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
                revoked.append(builder.revocation_date(now).build())
        made = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
        made = made.last_update(now - _BACKDATED).next_update(now + datetime.timedelta(days=days))
        for each in revoked:
            made = made.add_revoked_certificate(each)
        _replace(path, made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644)
        return path
    except OSError as error:
        raise Failure(f"cannot revoke in {directory}: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"cannot read what is in {directory}: {error}") from None


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The CA of the directory and its key."""
    paths = directory / f"{CA}.crt", directory / f"{CA}.key"
    if not paths[0].exists() and not paths[1].exists():
        return _new_authority(directory)
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise Failure(f"{missing[0]} is missing", "restore it, or make a new CA in another directory")
    key = serialization.load_pem_private_key(paths[1].read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failure(
            f"{paths[1]} is no key that dyn tls make has written", "sign the node's certificate by other means"
        )
    return x509.load_pem_x509_certificate(paths[0].read_bytes()), key


def _new_authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("dyn CA")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder("dyn CA", name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(directory, CA, certificate, key)
    return certificate, key


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host_name(host: str) -> x509.GeneralName:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return x509.IPAddress(ip_address(bare))
    except ValueError:
        return x509.DNSName(bare)


def _write(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    clear = serialization.NoEncryption()
    key_text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    _replace(paths[1], key_text, 0o600)
    _replace(paths[0], certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return paths


def _replace(path: Path, data: bytes, mode: int) -> None:
    path = replaceable(path)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    draft.replace(path)
