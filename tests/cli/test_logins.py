"""Logging in: where the password comes from, that it is sent when it must be, and that nobody sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dynamo_cli import logins
from dynamo_cli.addresses import Address, parse_url
from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.logins import Login, local_login, login_of
from dynamo_cli.node_settings import parse_settings
from tests.cli.scripted import Reply, ScriptedNode

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]
VARIABLES = ("DYN_URL", "DYN_PASSWORD", "DYN_PASSWORD_FILE")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("of the file\nanother line\n")
    return path


def test_the_password_comes_from_the_nearest_place(monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path) -> None:
    assert login_of(None, None) is None and login_of("ops", None) is None
    monkeypatch.setenv("DYN_URL", "redis://ann:of%40url@h:1")
    assert login_of(None, None) == Login("ann", "of@url")
    monkeypatch.setenv("DYN_PASSWORD", "of the environment")
    assert login_of(None, None) == Login("ann", "of the environment")
    (tmp_path / "second").write_text("of the second file")
    monkeypatch.setenv("DYN_PASSWORD_FILE", str(tmp_path / "second"))
    assert login_of("ops", None) == Login("ops", "of the second file")
    assert login_of("ops", file) == Login("ops", "of the file")
    with pytest.raises(Failure, match="cannot read the password file"):
        login_of("ops", tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("redis://u:p@h:7", "u"),
        ("redis://:p@h:7", "default"),
        ("redis://u:p%2Fq@h:7/0", "u"),
        ("redis://u:p/q@h:7/0", "u"),
    ],
)
def test_a_url_may_hold_a_login(url: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_URL", url)
    login = login_of(None, None)
    assert login is not None and login.user == user and login.password in ("p", "p/q")
    assert parse_url(url) == Address("h", 7)


@pytest.mark.parametrize("url", ["redis://u:secret@h:7/99", "http://u:secret@h:7", "redis://u:secret@h:x"])
def test_no_error_shows_the_password_of_a_url(url: str) -> None:
    with pytest.raises(WrongUsage) as wrong:
        parse_url(url)
    assert "secret" not in f"{wrong.value.message} {wrong.value.hint}"


def test_a_given_login_is_sent_first(scripted: Scripted, dyn: Dyn, file: Path) -> None:
    node = scripted({"AUTH": "OK", "DYN.GET": [b"c", [b"v"]]})
    result = dyn(node, "--user", "ops", "--password-file", str(file), "get", "k")
    assert result.exit_code == 0
    assert node.calls[0] == [b"AUTH", b"ops", b"of the file"]


def test_a_wrong_password_is_an_error_that_does_not_show_it(scripted: Scripted, dyn: Dyn, file: Path) -> None:
    node = scripted({"AUTH": "-WRONGPASS invalid username-password pair or user is disabled."})
    result = dyn(node, "--user", "ops", "--password-file", str(file), "get", "k")
    assert result.exit_code == 1
    assert "WRONGPASS" in result.output and "of the file" not in result.output
    assert "that of user ops" in result.output


def test_a_refused_login_of_the_local_operator_says_whose_file_is_wanted(
    scripted: Scripted, dyn: Dyn, file: Path
) -> None:
    node = scripted({"AUTH": "-WRONGPASS invalid username-password pair or user is disabled."})
    result = dyn(node, "--user", "dyn.local", "--password-file", str(file), "get", "k")
    assert result.exit_code == 1 and "DIR/operator of the node that is asked" in " ".join(result.output.split())


def test_a_port_for_tls_only_is_an_error_that_names_the_option(scripted: Scripted, dyn: Dyn) -> None:
    result = dyn(scripted({"DYN.GET": "-ERR this port takes TLS connections only"}), "get", "k")
    assert result.exit_code == 1 and "--cacert" in result.output


def test_without_a_terminal_a_login_that_is_wanted_is_an_error_with_a_hint(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.GET": "-NOAUTH Authentication required."})
    result = dyn(node, "get", "k")
    assert result.exit_code == 1
    assert "--password-file" in result.output and "--user dyn.local" in result.output


def test_on_a_terminal_the_password_is_asked_for_once(
    scripted: Scripted, dyn: Dyn, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def ask(user: str | None, address: Address) -> Login:
        asked.append(user)
        return Login(user or "default", "typed")

    monkeypatch.setattr("dynamo_cli.target.asked_login", ask)
    node = scripted({"AUTH": "OK", "DYN.SET": [b"c", 2, 0]})
    assert dyn(node, "--user", "ops", "set", "k", "v").exit_code == 0
    assert node.calls[0] == [b"AUTH", b"ops", b"typed"] and asked == ["ops"]


def test_the_local_operator_reads_its_password_in_the_nodes_directory(tmp_path: Path) -> None:
    assert local_login(tmp_path) is None
    (tmp_path / logins.LOCAL_FILE).write_text("secret\n")
    assert local_login(tmp_path) == Login("dyn.local", "secret")
    (tmp_path / logins.LOCAL_FILE).write_bytes(b"\xff")
    assert local_login(tmp_path) is None, "damaged"


def test_no_password_stands_on_a_command_line() -> None:
    with pytest.raises(WrongUsage) as wrong:
        parse_settings(["requirepass=hunter2"])
    assert "hunter2" not in f"{wrong.value.message} {wrong.value.hint}"
    assert parse_settings(["requirepass="]) == {"requirepass": ""}
