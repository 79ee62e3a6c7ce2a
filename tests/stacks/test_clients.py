"""Client libraries in eleven languages connect to a node of three and do their INCR (`make stacks-clients`).

A library's program looks at the answers that it gets; then another node is asked what is there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache

import pytest

from tests.stacks.clients import COMPILERS, FOLDER, LIBRARIES, MODULES, PROGRAMS, Library
from tests.stacks.clients.versions import is_there
from tests.wire.cluster import Client, WireCluster

LIBRARIES_MIN = 26  # as many as this project promises
RUN_S = 60
CASES = [(each, mode) for each in LIBRARIES for mode in ("plain", "cluster") if mode == "plain" or each.cluster]
PIPED = "10"
KEEP_TO_ONE_NODE = {("PHP", "predis"), ("Go", "redis.v5")}  # the table of libraries tells why
WITHOUT_PIPELINES = {("PHP", "redis"), ("Go", "redigo"), ("Python", "yaaredis")}  # of their clients for clusters


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Library], list[str]]:
    """Makes the command that drives a library; what must be built is built once."""
    folder = tmp_path_factory.mktemp("programs")

    @cache
    def built(language: str) -> str:
        out = str(folder / language)
        words = [word.replace("OUT", out) for word in COMPILERS[language]]
        own = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": f"{out}.cache"}
        ended = subprocess.run(words, cwd=FOLDER, env=os.environ | own, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return out

    def command(library: Library) -> list[str]:
        if library.language in COMPILERS:
            return [built(library.language)]
        run, *words = PROGRAMS[library.language]
        return [str(MODULES / ".bin/bun") if library.name == "bun" else run, *words]

    return command


def prefix_elsewhere(cluster: WireCluster, name: str) -> str:
    """A prefix of keys, the counter of which belongs to another node than the first one."""
    with cluster.nodes[0].client() as client:
        slots = client.cluster("SLOTS")
        for number in range(100):
            slot = client.cluster("KEYSLOT", f"{name}:{number}:counter")
            if all(owner[1] != cluster.ports[0] for first, last, owner, *_ in slots if first <= slot <= last):
                return f"{name}:{number}"
    raise AssertionError("one node owns all of a hundred keys")


def received(others: list[Client]) -> int:
    """The connections that these nodes have ever had."""
    return sum(other.info("stats")["total_connections_received"] for other in others)


@pytest.mark.parametrize(("library", "mode"), CASES, ids=[f"{e.language}-{e.name}-{mode}" for e, mode in CASES])
def test_a_client_library_counts(
    cluster: WireCluster, program: Callable[[Library], list[str]], library: Library, mode: str
) -> None:
    if not is_there(library):
        pytest.skip(
            f"{library.package}, or what runs {library.language}, is not installed: make stacks-clients does it"
        )
    prefix = prefix_elsewhere(cluster, f"clients:{library.language}:{library.name}:{mode}")
    words = [*program(library), library.name, mode, str(cluster.ports[0]), prefix]
    others = [node.client(decode_responses=True) for node in cluster.nodes[1:]]
    before = received(others)
    ended = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=RUN_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    if mode == "cluster" and (library.language, library.name) not in KEEP_TO_ONE_NODE:
        assert received(others) > before, "a client of the cluster has kept to one node"
    has_pipelines = library.pipelines and (mode == "plain" or (library.language, library.name) not in WITHOUT_PIPELINES)
    assert ended.stdout == ("ok piped\n" if has_pipelines else "ok\n")
    assert others[0].get(f"{prefix}:string") == "value"
    assert others[0].get(f"{prefix}:counter") == "2"
    assert others[0].hgetall(f"{prefix}:hash") == {"field": "value"}
    assert others[0].get(f"{prefix}:piped") == (PIPED if has_pipelines else None)


def test_there_are_as_many_as_promised() -> None:
    assert sum(each.counts for each in LIBRARIES) >= LIBRARIES_MIN
    assert len({(each.language, each.name) for each in LIBRARIES}) == len(LIBRARIES)
