"""Nodes as processes of this test: started, killed, frozen, restarted, and asked over the wire how they are.

Theory. A node is a child of the test, held by its Popen, so that it is signalled by its own pid and its exit status is
known. Nothing here waits for an amount of time to pass: it waits for something to become true, asks over the wire, and
gives up at a deadline that is many times what it should take.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dynamo_cli.local_cluster import server_argv
from protocol.handshake import encode_secrets
from tests.ports import free_ports
from tests.wire.fork_server import Forked, fork_server

READY_S = 90.0
STOP_S = 60.0
POLL_S = 0.02
DYN = str(Path(sys.executable).with_name("dyn"))
# On a machine that is busy with other tests a node may be silent for seconds: for tests that are not about that.
PATIENCE = {
    "relay_silence_ms": 10_000, "relay_silence_ms_min": 10_000, "relay_stale_ms": 5_000, "request_timeout_ms": 20_000,
}  # fmt: skip
PATIENT = "".join([f"{name} = {value}\n" for name, value in PATIENCE.items()])
SECRET = bytes(range(32))  # of all clusters of the tests, unless a test says otherwise
T = TypeVar("T")
Client = Any  # redis.Redis; its stubs answer "Awaitable or not" everywhere


def wait_for(check: Callable[[], T], what: str, timeout_s: float = READY_S) -> T:
    """The first true answer of `check`, asked again and again. AssertionError at the deadline."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        pause.wait(POLL_S)


def connect(port: int, timeout_s: float = 10.0, **options: Any) -> Client:
    """A client that tries once: a broken connection is the caller's to see."""
    return redis.Redis(port=port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0), **options)


def dyn(
    *words: str | bytes | Path, port: int | None = None, timeout_s: float = 150, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs the `dyn` command as a user would."""
    target = [] if port is None else ["--port", str(port), "--timeout", "30"]
    return subprocess.run([DYN, *target, *words], capture_output=True, timeout=timeout_s, **options)


class Host(NamedTuple):
    """Where a node runs: its IP address, and the words before the command that put it there."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


LOOPBACK = Host()


class WireNode:
    """One node: its directory, its port, and its process while it has one."""

    def __init__(
        self,
        directory: Path,
        port: int,
        options: Sequence[str],
        environment: Mapping[str, str],
        host: Host = LOOPBACK,
        secrets: Sequence[bytes] = (SECRET,),
    ) -> None:
        self.directory = directory
        self.secrets = secrets
        self.name = directory.name
        self.port = port
        self.host = host
        self._options = options
        self._environment = environment
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.log_read = 0  # so much of the log has been found to be clean

    @property
    def address(self) -> str:
        """Where it serves, as operators write it."""
        return f"{self.host.address}:{self.port}"

    @property
    def pid(self) -> int:
        """The process number of the running node."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the node has said, over all its lives."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def write_secrets(self, *secrets: bytes) -> None:
        """Replaces its file of secrets, as an operator does."""
        self.secrets = secrets
        draft = self.directory / "secret.new"
        draft.write_text(encode_secrets(secrets))
        draft.chmod(0o600)
        draft.replace(self.directory / "secret")

    def start(self, *options: str) -> None:
        """Starts the process, with further options; it serves a little later."""
        assert self._process is None, f"{self.name} runs"
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.secrets:
            self.write_secrets(*self.secrets)
        words = ["--dir", str(self.directory), "--listen", self.address, *self._options, *options]
        forks = None if self._environment or self.host.prefix else fork_server()
        if forks is not None:
            self._process = forks.start(words, self.directory / "log")
            return
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.prefix, *server_argv(*words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    def upgrade(self) -> None:
        """From its next start on it runs the present sources, and in the test's own environment."""
        self._environment = {}

    def change_environment(self, environment: Mapping[str, str]) -> None:
        """From its next start on it runs in this environment."""
        self._environment = environment

    def client(self, **options: Any) -> Client:
        """A redis-py client of this node."""
        return connect(self.port, host=self.host.address, **options)

    def serves(self) -> bool:
        """Whether it answers."""
        assert self._process is None or self._process.poll() is None, f"{self.name} has ended:\n{self.log[-2000:]}"
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def document(self, *words: str) -> dict[str, Any]:
        """The JSON document that an operator's command answers."""
        with self.client() as client:
            document: dict[str, Any] = json.loads(client.execute_command(*words))
        return document

    def states(self) -> dict[str, str]:
        """What this node holds each node's state for, by name."""
        return {node["name"]: node["state"] for node in self.document("DYN.CLUSTER", "STATUS")["nodes"]}

    def is_healthy(self) -> bool:
        """Whether the cluster is, in this node's eyes. A node that does not answer in time is not excused."""
        try:
            return bool(self.document("DYN.CLUSTER", "STATUS")["verdict"] == "healthy")
        except (redis.ConnectionError, redis.ResponseError):
            return False

    def summary(self) -> str:
        """What its status says of the cluster, in words; or why it says nothing."""
        try:
            return str(self.document("DYN.CLUSTER", "STATUS")["summary"])
        except redis.RedisError as error:
            return repr(error)

    def resident_mib(self) -> float:
        """The memory that the process occupies."""
        return int(self._status("VmRSS").split()[0]) / 1024

    def peak_mib(self) -> float:
        """The most memory that the process ever had."""
        return int(self._status("VmHWM").split()[0]) / 1024

    def _status(self, field: str) -> str:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP: from its return on the process stands still."""
        self.signal(signal.SIGSTOP)
        wait_for(lambda: self._status("State").startswith("T"), "it stands still")

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, the process stands still (SIGSTOP)."""
        try:
            self.freeze()
            yield
        finally:
            self.thaw()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The process ends by itself, or was asked to; its exit status."""
        assert self._process is not None, f"{self.name} does not run"
        status = self._process.wait(timeout_s)
        self._process = None
        return status

    def has_ended(self) -> bool:
        """Whether the process is gone by itself."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.poll() is not None

    def dispose(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self._process is not None:
            self._process.kill()
            self.wait()


def _advertise(ports: Mapping[int, int] | None, place: int) -> list[str]:
    return ["--advertise", f"127.0.0.1:{ports[place]}"] if ports and place in ports else []


class WireCluster:
    """Nodes n1, n2, … under one directory, on neighbouring ports."""

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        fsync: str = "everysec",
        config: str = "",
        environments: Mapping[int, Mapping[str, str]] | None = None,
        hosts: Sequence[Host] = (),
        secrets: Sequence[bytes] = (SECRET,),
        advertised: Mapping[int, int] | None = None,
    ) -> None:
        """`config` is the text of a TOML file of settings; `environments` are variables of single nodes, by place, and
        `hosts` say where each of them runs, if not all on loopback; `advertised` are the ports that single nodes tell
        others, by place."""
        self.directory = directory
        base_port = free_ports(nodes)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "settings.toml").write_text(config)
        self._options = options = ["--config", str(directory / "settings.toml"), *(["--fsync", fsync] if fsync else [])]
        self.nodes = [
            WireNode(
                directory / f"n{place + 1}",
                base_port + place,
                [*options, *_advertise(advertised, place)],
                (environments or {}).get(place, {}),
                hosts[place] if hosts else LOOPBACK,
                secrets,
            )
            for place in range(nodes)
        ]

        self._added = nodes
        self._secrets = secrets

    def add(
        self,
        *options: str,
        host: Host = LOOPBACK,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> WireNode:
        """Starts a fresh node more, which is no member yet."""
        self._added += 1
        home = directory or self.directory / f"n{self._added}"
        node = WireNode(home, free_ports(1), self._options, environment or {}, host, self._secrets)
        self.nodes.append(node)
        node.start(*options)
        wait_for(node.serves, f"{node.name} serves")
        return node

    def forget(self, *nodes: WireNode) -> None:
        """These have left the cluster, and end."""
        for node in nodes:
            node.dispose()
            self.nodes.remove(node)

    def form(self) -> None:
        """Starts fresh nodes and makes one healthy cluster of them."""
        self.start()
        members = [node.document("DYN.CLUSTER", "MYSELF") for node in self.nodes]
        quorum = min(2, len(members))
        wish = {"partitions": 128, "n": min(3, len(members)), "r": quorum, "w": quorum, "members": members}
        self.nodes[0].document("DYN.CLUSTER", "INIT", json.dumps(wish))
        self.wait_healthy()

    def start(self) -> None:
        """Starts all nodes and waits until each answers."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            wait_for(node.serves, f"{node.name} serves")

    def wait_healthy(self) -> None:
        """Waits until each node calls the cluster healthy."""
        for node in self.nodes:
            try:
                wait_for(node.is_healthy, f"{node.name} calls the cluster healthy")
            except AssertionError as error:
                raise AssertionError(f"{error}, but says: {node.summary()}") from None

    def stop(self) -> None:
        """Stops all nodes cleanly."""
        for node in self.nodes:
            node.signal(signal.SIGTERM)
        for node in self.nodes:
            assert node.wait() == 0, node.log[-2000:]

    @property
    def ports(self) -> list[int]:
        """The ports of the nodes."""
        return [node.port for node in self.nodes]

    def dispose(self) -> None:
        """Ends what still runs, shows the ends of the logs (pytest prints them if the test failed), drops the data."""
        for node in self.nodes:
            node.dispose()
            print(f"--- the log of {node.name}:", *node.log.splitlines()[-15:], sep="\n")
            shutil.rmtree(node.directory / "data", ignore_errors=True)

    def assert_logs_clean(self) -> None:
        """No node has met anything that it did not expect, since this was last asked."""
        for node in self.nodes:
            news, node.log_read = node.log[node.log_read :], len(node.log)
            assert "Traceback" not in news, f"{node.name} met the unexpected:\n{news[-2000:]}"
