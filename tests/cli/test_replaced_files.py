"""What commands refuse to replace: everything that is no regular file. A socket stands for devices, pipes and the like."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dynamo_cli.failures import WrongUsage
from dynamo_cli.moving.progress_file import ProgressFile
from dynamo_cli.replaced_files import replaceable
from tests.cli.scripted import ScriptedNode

Dyn = Callable[..., Result]
NO_KEYS = {"PING": "PONG", "DBSIZE": 0, "SELECT": "OK"}


@pytest.fixture
def special(tmp_path: Path) -> Path:
    """A file that is no regular one."""
    path = tmp_path / "special"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    return path


def _commands(path: Path) -> list[list[str]]:
    return [["export", str(path)], ["secret", "add", str(path)], ["key", "make", "--file", str(path)]]


@pytest.mark.parametrize("number", range(3))
def test_no_command_replaces_a_special_file(
    dyn: Dyn, scripted: Callable[..., ScriptedNode], special: Path, number: int
) -> None:
    refused = dyn(scripted(NO_KEYS), *_commands(special)[number])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{special} is a device, a pipe or a socket, and would be replaced by a file" in refused.stderr
    assert stat.S_ISSOCK(special.stat().st_mode)
    assert list(special.parent.iterdir()) == [special]


@pytest.mark.parametrize("number", [0, 2])
def test_a_directory_is_refused_before_anything_is_written(
    dyn: Dyn, scripted: Callable[..., ScriptedNode], tmp_path: Path, number: int
) -> None:
    (tmp_path / "kept").mkdir()
    node = scripted(NO_KEYS)
    refused = dyn(node, *_commands(tmp_path / "kept")[number])
    assert refused.exit_code == 2 and "is a directory" in refused.stderr
    assert node.calls == [] and list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_a_certificate_replaces_no_special_file(dyn: Dyn, tmp_path: Path, special: Path) -> None:
    special.rename(tmp_path / "node.key")
    refused = dyn(None, "tls", "make", "--dir", str(tmp_path))
    assert refused.exit_code == 2 and "node.key is a device" in refused.stderr
    assert (tmp_path / "node.key").is_socket() and not (tmp_path / "node.crt").exists()


def test_a_progress_file_replaces_no_special_file(special: Path) -> None:
    with pytest.raises(WrongUsage, match="is a device"):
        ProgressFile(special, {})


def test_a_link_stays_a_link(dyn: Dyn, scripted: Callable[..., ScriptedNode], tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    for name, words in (("dump", ["export"]), ("keys", ["key", "make", "--file"])):
        link = tmp_path / name
        link.symlink_to(tmp_path / "mounted" / name)
        assert dyn(scripted(NO_KEYS), *words, str(link)).exit_code == 0
        assert link.is_symlink() and (tmp_path / "mounted" / name).stat().st_size
    assert sorted(path.name for path in (tmp_path / "mounted").iterdir()) == ["dump", "keys"]


def test_a_file_that_is_not_there_yet_may_be_made(tmp_path: Path) -> None:
    assert replaceable(tmp_path / "new") == tmp_path / "new"
