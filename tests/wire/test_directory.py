"""What a data directory remembers of addresses, and which address a node hands on. No processes here."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path

import pytest

from server.core.membership.addresses import STOPPED, UNREACHABLE, UNRESOLVED
from server.shell import addresses
from server.shell.addresses import AddressError, advertised_address
from server.shell.connect_errors import trouble_of
from server.shell.directory import DirectoryError, Endpoints, IdentityOptions, open_directory, save_identity


def test_a_directory_remembers_where_the_node_listens_what_it_advertises_and_its_seeds(tmp_path: Path) -> None:
    options = IdentityOptions(listen="0.0.0.0:7001", advertise="n1.dyn:7001", seeds=["a:1", "b:2"])
    first, endpoints, settings = open_directory(tmp_path / "n1", options)
    assert endpoints == Endpoints("0.0.0.0:7001", "n1.dyn:7001", ("a:1", "b:2"))
    save_identity(tmp_path / "n1", first, endpoints, settings)
    assert open_directory(tmp_path / "n1", IdentityOptions())[:2] == (first, endpoints)
    member, moved, settings = open_directory(tmp_path / "n1", IdentityOptions(listen="10.0.0.1:7001", seeds=["c:3"]))
    assert moved == Endpoints("10.0.0.1:7001", "n1.dyn:7001", ("c:3",))
    save_identity(tmp_path / "n1", member, moved, settings)
    assert open_directory(tmp_path / "n1", IdentityOptions())[1] == moved


def test_a_directory_of_an_earlier_version_is_one_without_all_that(tmp_path: Path) -> None:
    member, endpoints, settings = open_directory(tmp_path, IdentityOptions(listen="10.0.0.1:7001", fsync="no"))
    save_identity(tmp_path, member, endpoints, settings)
    document = json.loads((tmp_path / "node.json").read_text())
    assert set(document) == {"id", "name", "address", "zone", "weight", "fsync"}
    assert (endpoints, settings) == (Endpoints("10.0.0.1:7001", "", ()), {"fsync": "no"})
    assert member.address == "10.0.0.1:7001"


@pytest.mark.parametrize(
    ("listen", "advertise", "handed_on"),
    [
        ("10.0.0.1:7001", "", "10.0.0.1:7001"),
        ("[::1]:7001", "", "[::1]:7001"),
        ("localhost:7001", "", "127.0.0.1:7001"),
        ("0.0.0.0:7001", "n1.dyn:7009", "n1.dyn:7009"),
        ("0.0.0.0:7001", "", "192.0.2.1:7001"),
        ("[::]:7001", "", "[2001:db8::1]:7001"),
    ],
)
def test_what_is_handed_on(listen: str, advertise: str, handed_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_ipv4_hosts", lambda: ["192.0.2.1"])
    monkeypatch.setattr(addresses, "_ipv6_hosts", lambda: ["[2001:db8::1]"])
    assert advertised_address(listen, advertise) == handed_on


@pytest.mark.parametrize(
    "given",
    [
        IdentityOptions(id="1" * 300),
        IdentityOptions(id="a b"),
        IdentityOptions(id="n\u00e4"),
        IdentityOptions(name="n" * 300),
        IdentityOptions(name="a b"),
    ],
)
def test_a_node_with_an_id_or_a_name_that_no_member_may_have_does_not_start(
    tmp_path: Path, given: IdentityOptions
) -> None:
    with pytest.raises(DirectoryError, match=r"the (id|name) of a node is 1 to 128 .* give another one"):
        open_directory(tmp_path, given)
    assert not any(tmp_path.iterdir())


def test_where_there_is_a_choice_the_operator_has_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_ipv4_hosts", lambda: ["192.0.2.1", "10.0.0.1"])
    with pytest.raises(AddressError, match=r"192\.0\.2\.1, 10\.0\.0\.1: say with --advertise"):
        advertised_address("0.0.0.0:7001")
    with pytest.raises(AddressError, match=r"nowhere\.invalid of --listen leads to no address"):
        advertised_address("nowhere.invalid:7001")


def test_a_machine_that_is_in_no_network_has_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_ipv4_hosts", list)
    monkeypatch.setattr(addresses, "_ipv6_hosts", list)
    assert (advertised_address("0.0.0.0:1"), advertised_address("[::]:1")) == ("127.0.0.1:1", "[::1]:1")


def test_the_addresses_of_this_machine_are_its_own() -> None:
    """Each can be bound, which no other address can."""
    for ipv6, family in ((False, socket.AF_INET), (True, socket.AF_INET6)):
        for host in addresses.own_hosts(ipv6):
            with socket.socket(family) as probe:
                probe.bind((host.strip("[]"), 0))


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), STOPPED),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), [Errno 111] …"), STOPPED),
        (OSError(errno.EHOSTUNREACH, "No route to host"), UNREACHABLE),
        (TimeoutError(), UNREACHABLE),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UNRESOLVED),
    ],
)
def test_why_a_connection_cannot_be_made(error: OSError | TimeoutError, trouble: str) -> None:
    assert trouble_of(error)[0] == trouble and trouble_of(error)[1]


def test_a_new_directory_is_its_owners_only_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    open_directory(tmp_path / "new", IdentityOptions())
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir(mode=0o755)
    (tmp_path / "old").chmod(0o755)
    open_directory(tmp_path / "old", IdentityOptions())
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755


def test_the_file_of_settings_is_remembered_until_another_is_given(tmp_path: Path) -> None:
    member, endpoints, settings = open_directory(tmp_path, IdentityOptions(config="/etc/dyn.toml"))
    save_identity(tmp_path, member, endpoints, settings)
    assert open_directory(tmp_path, IdentityOptions())[1].config == "/etc/dyn.toml"
    assert open_directory(tmp_path, IdentityOptions(config="/other"))[1].config == "/other"
    forgotten = open_directory(tmp_path, IdentityOptions(config="/dev/null"))[1]
    assert forgotten.config == ""
    save_identity(tmp_path, member, forgotten, settings)
    assert "config" not in json.loads((tmp_path / "node.json").read_text())
