"""redis-cli and redis-benchmark, unmodified, as people use them."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from protocol import resp
from tests.wire.cluster import PATIENT, WireCluster

pytestmark = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-tools is not installed")


def _run(*words: str | int, stdin: bytes = b"") -> str:
    done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).decode()


def _cli(cluster: WireCluster, *words: str | int, node: int = 0, stdin: bytes = b"") -> str:
    return _run("redis-cli", "-p", cluster.ports[node], *words, stdin=stdin)


@pytest.mark.parametrize("option", [(), ("-3",), ("-c",), ("-2",)], ids=["plain", "RESP3", "cluster", "RESP2"])
def test_a_session(cluster: WireCluster, option: tuple[str, ...]) -> None:
    lines = "SET cli:k 'hello world'|GET cli:k|GET cli:none|STRLEN cli:k|EXPIRE cli:k 100|DEL cli:k|EXISTS cli:k"
    said = _cli(cluster, *option, node=1, stdin=lines.replace("|", "\n").encode())
    assert said.splitlines() == ["OK", "hello world", "", "11", "1", "1", "0"]


def test_one_command_at_a_time_through_different_nodes(cluster: WireCluster) -> None:
    assert _cli(cluster, "SET", "cli:greeting", "hello", node=0) == "OK\n"
    assert _cli(cluster, "-c", "GET", "cli:greeting", node=1) == "hello\n"
    assert _cli(cluster, "-x", "SET", "cli:stdin", node=2, stdin=b"a\nb\n") == "OK\n"
    assert _cli(cluster, "--raw", "GET", "cli:stdin", node=0) == "a\nb\n\n"
    assert "ERR Function not found" in _cli(cluster, "FCALL", "f", "0")
    assert "ERR unknown command" in _cli(cluster, "NOSUCH", "f")
    assert _cli(cluster, "-r", 3, "PING") == "PONG\nPONG\nPONG\n"


def test_siblings(cluster: WireCluster) -> None:
    for node, value in enumerate(("a", "b")):
        said = _cli(cluster, "--no-raw", "DYN.SET", "cli:siblings", value, node=node)
        assert re.fullmatch(r'1\) "[\w-]+"\n2\) \(integer\) [23]\n3\) \(integer\) 0\n', said)
    said = _cli(cluster, "--no-raw", "DYN.GET", "cli:siblings", node=2)
    match = re.fullmatch(r'1\) "([\w-]+)"\n2\) 1\) "a"\n   2\) "b"\n', said)
    assert match, said
    _cli(cluster, "DYN.SET", "cli:siblings", "c", "CONTEXT", match[1])
    assert _cli(cluster, "DYN.GET", "cli:siblings", node=1).splitlines()[1:] == ["c"]


def test_pipe_and_scan(cluster: WireCluster) -> None:
    names = [f"cli:pipe:{number}" for number in range(2000)]
    said = _cli(cluster, "--pipe", stdin=b"".join(resp.command("SET", name, f"v\r\n{name}") for name in names))
    assert "errors: 0, replies: 2000" in said
    for option in ((), ("-c",), ("-3",)):
        found = _cli(cluster, *option, "--scan", "--pattern", "cli:pipe:*", node=1).split()
        assert sorted(found) == sorted(names)
    assert _cli(cluster, "--scan", "--pattern", "cli:pipe:1999", node=2) == "cli:pipe:1999\n"


def test_what_the_tools_look_at(cluster: WireCluster) -> None:
    assert "redis_version:" in _cli(cluster, "INFO")
    assert "cluster_state:ok" in _cli(cluster, "CLUSTER", "INFO")
    nodes = _cli(cluster, "CLUSTER", "NODES").strip().splitlines()
    assert len(nodes) == 3
    assert sum("myself" in node for node in nodes) == 1
    assert _cli(cluster, "CLUSTER", "KEYSLOT", "{user1000}.following") == "3443\n"


def test_what_redis_cli_measures_and_looks_for(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT)
    lines = [f"SET string:{number} {'x' * number}" for number in range(1, 100)]
    lines += ["HSET hash a 1 b 2", "RPUSH list a b c", "SADD set a b c d", "ZADD zset 1 a 2 b 3 c 4 d 5 e"]
    _cli(cluster, stdin="\n".join(lines).encode())
    biggest = _cli(cluster, "--bigkeys", node=1)
    assert "Sampled 103 keys in the keyspace!" in biggest
    for name, has in (
        ("string:99", "99 bytes"), ("hash", "2 fields"), ("list", "3 items"), ("set", "4 members"), ("zset", "5 members"),
    ):  # fmt: skip
        assert f"{name.partition(':')[0]} found '\"{name}\"' has {has}" in biggest
    for words in (("--memkeys",), ("--memkeys-samples", 5)):
        memory = _cli(cluster, *words, node=2)
        assert "Sampled 103 keys in the keyspace!" in memory and "Biggest string found '\"string:99\"'" in memory
    hot = subprocess.run(["redis-cli", "-p", str(cluster.ports[0]), "--hotkeys"], capture_output=True, timeout=60)
    assert hot.returncode == 1 and b"ERR An LFU maxmemory policy is not selected" in hot.stderr + hot.stdout
    least, most, average, count = map(float, _cli(cluster, "--latency", "-i", 0.2, "--raw").split())
    assert least <= average <= most and count >= 1


def test_redis_cli_shows_statistics_line_by_line(cluster: WireCluster) -> None:
    _cli(cluster, "SET", "stat:key", "v")
    mine, its = pty.openpty()
    watching = subprocess.Popen(
        ["redis-cli", "-p", str(cluster.ports[0]), "--stat", "-i", "0.05"], stdout=its, stderr=its
    )
    try:
        said = b""
        while len(rows := re.findall(rb"^\d+ +[\d.]+[KMG]? +\d+ +\d+ +\d+ \(\+\d+\) +\d+", said, re.MULTILINE)) < 3:
            said += os.read(mine, 4096)
        assert b"keys       mem      clients blocked" in said and int(rows[-1].split()[0]) >= 1
    finally:
        watching.kill()
        watching.wait()
        os.close(mine)
        os.close(its)


def test_redis_cli_checks_a_cluster_that_says_it_is_one(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config="cluster_mode = true")
    checked = _cli(cluster, "--cluster", "check", f"127.0.0.1:{cluster.ports[0]}")
    assert "[OK] All 16384 slots covered." in checked
    assert "[ERR]" not in checked


def _benchmark(cluster: WireCluster, *words: str | int) -> str:
    said = _run("redis-benchmark", "-p", cluster.ports[0], "-t", "set,get", "-n", 2000, "-r", 500, "--csv", *words)
    assert "rror" not in said, said
    return said


@pytest.mark.parametrize("words", [(), ("-P", 16), ("-c", 200), ("-3",), ("-d", 10_000)], ids=str)
def test_benchmark(cluster: WireCluster, words: tuple[str | int, ...]) -> None:
    if shutil.which("redis-benchmark") is None:
        pytest.skip("redis-benchmark is not installed")
    said = _benchmark(cluster, *words)
    assert [line.split(",")[0] for line in said.splitlines()[-2:]] == ['"SET"', '"GET"']


@pytest.mark.parametrize("words", [(), ("-P", 16), ("--threads", 2)], ids=str)
def test_benchmark_of_a_cluster(cluster: WireCluster, words: tuple[str | int, ...]) -> None:
    if shutil.which("redis-benchmark") is None:
        pytest.skip("redis-benchmark is not installed")
    said = _benchmark(cluster, "--cluster", *words)
    assert "SET" in said
    assert "GET" in said
