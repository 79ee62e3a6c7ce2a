"""`dyn` as a process: no tracebacks, on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from dynamo_cli.version import installed_version
from server.build import COMPILED, ROOT, is_current
from tests.cli.documents import LOCATION, ring, status
from tests.cli.scripted import Reply, ScriptedNode

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
DYN = [sys.executable, "-m", "dynamo_cli"]


def run(*words: str, program: list[str] = DYN) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def on_terminal(*words: str, columns: int = 80) -> tuple[int, str]:
    """The exit status and all that a terminal of `columns` shows, without its colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen([*DYN, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = bytearray()
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    return child.wait(), re.sub(r"\x1b\[[0-9;]*m", "", shown.decode().replace("\r\n", "\n"))


def test_help_and_version() -> None:
    helped = run("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert all(
        f"\n  {name} " in helped.stdout for name in ("up", "down", "get", "set", "del", "cluster", "ring", "node")
    )
    said = re.fullmatch(r"dyn \d+\.\d+\.\d+ \((\w+), Python 3\.[0-9.]+, rocksdict [0-9.]+\)\n", run("--version").stdout)
    assert said and said[1] == ("compiled" if is_current(ROOT / COMPILED) else "interpreted")


def test_the_entry_point_is_installed() -> None:
    assert run("--version", program=[str(Path(sys.executable).with_name("dyn"))]).returncode == 0


def test_a_terminal_gets_pictures_and_a_pipe_plain_text(scripted: Scripted) -> None:
    node = scripted({"DYN.CLUSTER STATUS": status("degraded", "up", "down"), "DYN.RING SHOW": ring(128)})
    exit_status, shown = on_terminal("--port", str(node.port), "cluster", "status")
    assert exit_status == 4
    assert "● degraded  two nodes" in shown
    assert "127.0.0.1:7002" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "█" in on_terminal("--port", str(node.port), "ring", "show")[1]
    piped = run("--port", str(node.port), "ring", "show").stdout
    assert piped.isascii()
    assert "\x1b" not in piped


def test_json_on_a_terminal_is_indented(scripted: Scripted) -> None:
    node = scripted({"DYN.RING LOCATE": LOCATION})
    assert '{\n  "key": "k",\n' in on_terminal("--port", str(node.port), "ring", "locate", "k", "--json")[1]


def test_a_reader_that_goes_away_is_no_traceback(scripted: Scripted) -> None:
    node = scripted({"DYN.RING SHOW": ring(16384)})
    reading, writing = os.pipe()
    os.close(reading)
    words = [*DYN, "--port", str(node.port), "ring", "show"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_is_an_error_not_a_traceback(scripted: Scripted) -> None:
    node = scripted({"DYN.GET": [b"t", [b"v"]]})
    with open("/dev/full", "wb") as full:
        words = [*DYN, "--port", str(node.port), "get", "k"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "dyn: stdout: No space left on device\n"


INTERRUPTED = """
import os, signal
from dynamo_cli import app, data_commands
def read(*given):
    os.kill(os.getpid(), signal.SIGINT)
data_commands._read = read
app.main()
"""
BUG = """
from dynamo_cli import app, data_commands
def read(*given):
    raise ZeroDivisionError("division by zero")
data_commands._read = read
app.main()
"""


def test_ctrl_c_is_silent(scripted: Scripted) -> None:
    done = run("--port", str(scripted({}).port), "get", "k", program=[sys.executable, "-c", INTERRUPTED])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_bug_is_one_sentence_unless_asked_for(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--port", str(scripted({}).port), "get", "k"]
    done = run(*words, program=[sys.executable, "-c", BUG])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "dyn: a bug in dyn: ZeroDivisionError: division by zero"
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("DYN_DEBUG", "1")
    assert "Traceback" in run(*words, program=[sys.executable, "-c", BUG]).stderr


@pytest.mark.parametrize("module", ["rich", "cryptography", "ssl", "secrets", "tomllib"])
def test_a_command_does_not_wait_for_what_few_commands_need(module: str) -> None:
    program = f"import sys; from dynamo_cli import commands, app; print({module!r} in sys.modules)"
    assert run(program=[sys.executable, "-c", program]).stdout == "False\n"


def test_the_version_does_not_wait_for_the_commands() -> None:
    """`dyn --version` takes less than `python -c 'import typer'`: it imports nothing of that, nor what is as slow."""
    at_end = "import atexit, sys; atexit.register(lambda: print('typer' in sys.modules or 'email' in sys.modules))"
    program = f"{at_end}; from dynamo_cli import app; app.main()"
    lines = run("--version", program=[sys.executable, "-c", program]).stdout.splitlines()
    assert lines[0].startswith("dyn ") and lines[1:] == ["False"]
    assert run("--host", "h", "--version").stdout.startswith(lines[0])


def test_versions_are_those_that_the_installer_knows() -> None:
    assert installed_version("dyn") == version("dyn") and installed_version("rocksdict") == version("rocksdict")
    with pytest.raises(PackageNotFoundError):
        installed_version("no-such-package")
