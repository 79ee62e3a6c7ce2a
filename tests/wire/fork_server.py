"""A fork server for node processes: one process imports what a node imports, and each node is a fork of that.

Theory. A node imports 250 modules, which costs more CPU than all else that it does until it serves, and the tests start
nodes some thousand times. So this file, run as a program, imports what `python -m server` imports, the compiled build
included, and forks a child for each line on its standard input: a JSON document of what the child shall be. The child does
what `server/__main__.py` does, from `main` on and to its end by `sys.exit`. Nodes share nothing by that: the fork server
begins no thread, no loop and no random generator.

The fork server is the parent, so it tells the exit status when it is asked. That a node has ended the test sees by itself,
by a pidfd.

Nodes with an environment or a command prefix of their own are started by `python -m server`, as `dyn` starts all.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


class ForkServer:
    """The test's side: the process, and what is asked of it."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        words = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the fork server; nodes that run go on."""
        self._process.communicate()

    def start(self, options: list[str], log: Path) -> Forked:
        """A node process with these options of `python -m server`; what it says goes to `log`."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        place = {"options": options, "log": str(log), "directory": os.getcwd(), "files": limits}
        return Forked(self, self._ask(place))

    def status(self, pid: int) -> int:
        """The status of a child that has ended, as `waitpid` has it."""
        return self._ask({"ended": pid})

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Forked:
    """A node process: what the tests use of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status, minus a signal's number; None while it runs."""
        return self._look(0)

    def wait(self, timeout_s: float) -> int:
        """The same, once it has ended. Raises TimeoutExpired."""
        status = self._look(timeout_s)
        if status is None:
            raise subprocess.TimeoutExpired("python -m server", timeout_s)
        return status

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _look(self, timeout_s: float) -> int | None:
        if self.returncode is None and select.select([self._pidfd], [], [], timeout_s)[0]:
            self.returncode = os.waitstatus_to_exitcode(self._server.status(self.pid))
            os.close(self._pidfd)
        return self.returncode


_servers: list[ForkServer] = []


def fork_server() -> ForkServer | None:
    """The fork server of this process of tests; None where the environment is not that in which it was started."""
    if not _servers:
        _servers.append(ForkServer())
    return _servers[0] if _servers[0].environment == dict(os.environ) else None


# --- the program


def _serve() -> list[str] | None:
    """Does what is asked until nobody asks any more. In a child: the options of the node that it is to be."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "ended" in request:
            answer = os.waitpid(request["ended"], 0)[1]
        else:
            answer = os.fork()
            if not answer:
                _become(request)
                options: list[str] = request["options"]
                return options
        os.write(1, b"%d\n" % answer)
    return None


def _become(request: dict[str, Any]) -> None:
    """This child is a process as the test would start one."""
    with open(os.devnull, "rb") as nothing, open(request["log"], "ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(request["directory"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["files"]))


if __name__ == "__main__":
    from server.build import use_compiled

    use_compiled()

    from server.shell.process import main

    chosen = _serve()
    if chosen is not None:
        sys.exit(main(chosen))
