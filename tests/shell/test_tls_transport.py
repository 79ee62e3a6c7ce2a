"""TLS over a plain transport: however the bytes are cut, the same bytes come out, and pauses and ends are passed on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from dynamo_cli.certificates import LOCAL_HOSTS, make
from server.core.base.config import Config, ConfigError
from server.shell.certificates import Certificates, common_name, is_nodes
from server.shell.tls_transport import TlsProtocol, TlsTransport


class Socket:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.out = b""
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def get_write_buffer_size(self) -> int:
        return len(self.out)


class App(asyncio.Protocol):
    """What stands behind TLS."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(TlsTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Pair:
    """A server and a client whose bytes the test carries, in pieces of at most `piece_bytes`."""

    def __init__(self, directory: Path, piece_bytes: int = 1 << 30, **settings: str) -> None:
        make(directory, "node", LOCAL_HOSTS, 30)
        make(directory, "alice", (), 30)
        self.certificates = Certificates(config_of(directory, **settings))
        self.piece_bytes = piece_bytes
        self.apps, self.sockets, self.ended = (App(), App()), (Socket(), Socket()), ["?", "?"]
        contexts = (self.certificates.for_server(), self.certificates.for_client())
        self.ends = [
            TlsProtocol(contexts[place], not place, self.apps[place], TlsProtocol.step, self._note(place))
            for place in (0, 1)
        ]
        for end, there in zip(self.ends, self.sockets, strict=True):
            end.connection_made(cast(asyncio.Transport, there))

    def _note(self, place: int) -> Callable[[TlsProtocol, str], None]:
        def note(_: TlsProtocol, error: str) -> None:
            self.ended[place] = error

        return note

    def carry(self) -> None:
        """Carries bytes until nothing is left."""
        while any(there.out for there in self.sockets):
            for place in (0, 1):
                data, self.sockets[place].out = self.sockets[place].out, b""
                for start in range(0, len(data), self.piece_bytes):
                    self.ends[1 - place].data_received(data[start : start + self.piece_bytes])


def config_of(directory: Path, **settings: str) -> Config:
    files = {f"tls_{kind}_file": str(directory / name) for kind, name in
             (("ca", "ca.crt"), ("cert", "node.crt"), ("key", "node.key"))}  # fmt: skip
    return Config.of({"engine": "memory"} | files | settings)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 1 << 20])
def test_the_same_bytes_come_out_however_they_are_cut(tmp_path: Path, piece_bytes: int) -> None:
    pair = Pair(tmp_path, piece_bytes)
    pair.carry()
    assert pair.ended == ["", ""]
    said = random.Random(1).randbytes(40_000)
    for app in pair.apps:
        app.transport.write(b"")
        app.transport.write(said[:5])
        app.transport.writelines([said[5:20_000], memoryview(said)[20_000:], b""])
    pair.carry()
    assert [app.received for app in pair.apps] == [said, said]


def test_what_waits_is_what_the_socket_has_not_taken(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.carry()
    pair.apps[0].transport.write(b"x" * (3 << 20))
    assert pair.apps[0].transport.get_write_buffer_size() > 3 << 20
    pair.ends[0].pause_writing()
    pair.ends[0].resume_writing()
    assert pair.apps[0].events == ["pause", "resume"]


def test_a_close_is_told_after_what_was_written(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.carry()
    pair.apps[0].transport.write(b"last")
    pair.apps[0].transport.close()
    pair.apps[0].transport.write(b"too late")
    assert pair.sockets[0].closed
    pair.carry()
    assert pair.apps[1].received == b"last" and pair.sockets[1].closed
    pair.ends[1].connection_lost(None)
    assert pair.apps[1].events == ["lost"]


def test_a_changed_byte_ends_the_connection_and_is_not_passed_on(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.carry()
    pair.apps[1].transport.write(b"first")
    pair.apps[1].transport.write(b"second")
    data = bytearray(pair.sockets[1].out)
    data[-1] ^= 1
    pair.ends[0].data_received(bytes(data))
    assert pair.apps[0].received == b"first" and pair.sockets[0].aborted


def test_a_handshake_that_fails_or_breaks_off_is_told_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.ends[0].data_received(b"\x16\x03\x01\x00\x05nonsense")
    assert pair.ended[0] not in ("", "?") and pair.sockets[0].closed
    pair.ended[0] = "?"
    pair.ends[0].connection_lost(None)
    assert pair.ended[0] == "?" and pair.apps[0].events == []
    other = Pair(tmp_path)
    other.ends[1].connection_lost(None)
    assert other.ended[1] == "it broke off" and other.apps[1].events == []


def test_certificates_tell_who_they_are_for(tmp_path: Path) -> None:
    pair = Pair(tmp_path, tls_client_certificates="required")
    pair.carry()
    shown = pair.apps[0].transport.get_extra_info("ssl_object").getpeercert(True)
    assert is_nodes(shown) and common_name(pair.apps[0].transport.get_extra_info("peercert")) == "node"
    import ssl

    clients = ssl.PEM_cert_to_DER_cert((tmp_path / "alice.crt").read_text())
    assert not is_nodes(clients) and not is_nodes(None) and not is_nodes(b"nonsense")
    assert common_name({}) == "" and common_name(None) == ""


def test_changed_files_are_read_and_wrong_ones_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(tmp_path)
    certificates = pair.certificates
    first = certificates.for_server()
    certificates.look()
    assert certificates.for_server() is first and certificates.warning() != ""  # 30 days is near enough to warn
    assert not certificates.is_urgent(), "but not near enough to call the cluster degraded"
    key = (tmp_path / "node.key").read_bytes()
    make(tmp_path, "node", LOCAL_HOSTS, 300)
    certificates.look()
    second = certificates.for_server()
    assert second is not first and certificates.days_left() in (299, 300) and certificates.warning() == ""
    new_key = (tmp_path / "node.key").read_bytes()
    (tmp_path / "node.key").write_bytes(key)
    for _ in range(3):
        certificates.look()
    assert certificates.for_server() is second and caplog.text.count("does not belong to") == 1
    assert "does not belong to" in certificates.warning() and certificates.is_urgent()
    (tmp_path / "node.crt").unlink()
    certificates.look()
    assert certificates.for_server() is second and "node.crt: No such file" in certificates.warning()
    make(tmp_path, "node", LOCAL_HOSTS, 300)
    certificates.look()
    assert certificates.for_server() is not second and certificates.warning() == "" and new_key != key
    assert not certificates.is_urgent()


@pytest.mark.parametrize(("days", "days_gone", "is_urgent"), [(300, 292, False), (300, 294, True), (300, 301, True),
                                                              (2, 1, False), (2, 1.6, True)])  # fmt: skip
def test_a_certificate_that_ends_soon_is_urgent(
    days: int, days_gone: float, is_urgent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its last week; one that is made for days only, within its last quarter."""
    certificates = Pair(tmp_path).certificates
    make(tmp_path, "node", LOCAL_HOSTS, days)
    certificates.look()
    now_s = time.time() + days_gone * 86_400
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert certificates.is_urgent() is is_urgent and ("renew" in certificates.warning())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tls_port": 7101}, "needs the node's certificate"),
        ({"tls_cert_file": "a"}, "go together"),
        ({"tls_peers": "maybe"}, "must be no, optional or yes"),
        ({"tls_peers": "yes", "tls_cert_file": "a", "tls_key_file": "b"}, "needs tls_ca_file"),
        ({"tls_client_certificates": "required"}, "needs tls_ca_file"),
        ({"tls_port": 70_000, "tls_cert_file": "a", "tls_key_file": "b"}, "65535 at most"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Config.of(settings)


def test_a_key_that_others_can_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "node", LOCAL_HOSTS, 30)
    Certificates(config_of(tmp_path))
    assert "chmod 600" not in caplog.text
    (tmp_path / "node.key").chmod(0o640)
    Certificates(config_of(tmp_path))
    assert "node.key can be read by others than its owner: chmod 600" in caplog.text


def test_files_that_cannot_be_used_keep_the_node_from_starting(tmp_path: Path) -> None:
    make(tmp_path, "node", LOCAL_HOSTS, 30)
    (tmp_path / "node.key").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"cannot be used: .*node\.key"):
        Certificates(config_of(tmp_path))
    (tmp_path / "node.key").unlink()
    with pytest.raises(ConfigError, match=r"node\.key: No such file"):
        Certificates(config_of(tmp_path))
