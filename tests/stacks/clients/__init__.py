"""Client libraries of other people: each connects to a node and does SET, GET, INCR, HSET, HGET, and a pipeline.

A program for each language drives all libraries of it: `PROGRAM LIBRARY plain|cluster PORT PREFIX` leaves the keys
PREFIX:string, :counter, :hash and :piped, and says `ok`, or `ok piped` if the library has pipelines. A library counts if it
speaks to the server with code of its own: those that only wrap another one are left out, and what shares its code with
another one does not count.

`make stacks-clients` installs all of them. `python -m tests.stacks.clients.versions` prints the versions that are
installed, for versions.txt, from which docs/compatibility.md has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
PYTHON = FOLDER.parents[2] / ".venv/clients/bin/python"  # the libraries' own environment
MODULES = FOLDER / "node_modules"


class Library(NamedTuple):
    """One client library: its name, as its program knows it, its package, and what it is tried with."""

    language: str
    name: str
    package: str
    cluster: bool = False  # whether it has a client for clusters, too, that finds the node of each key
    pipelines: bool = True  # its plain client has them
    remark: str = ""
    counts: bool = True  # no fork of another one, no binding of a core that another one has, too


PROGRAMS = {
    "Python": (str(PYTHON), "-W", "ignore", "libraries.py"),
    "JavaScript": ("node", "libraries.js"),
    "Perl": ("perl", "libraries.pl"),
    "Lua": ("lua5.1", "libraries.lua"),
    "Ruby": ("ruby", "libraries.rb"),
    "PHP": ("php", "libraries.php"),
    "Erlang": ("escript", "eredis.escript"),
}
# In these a program must be built: OUT stands for where, and the files are in this folder.
COMPILERS = {
    "C": ("cc", "-o", "OUT", "hiredis.c", "-lhiredis"),
    "C++": ("g++", "-o", "OUT", "poco.cpp", "-lPocoRedis", "-lPocoNet", "-lPocoFoundation"),
    "Go": ("go", "build", "-o", "OUT", "libraries.go"),
    "Haskell": ("ghc", "-v0", "-outputdir", "OUT.d", "-o", "OUT", "hedis.hs"),
}
_PREDIS = "its client for clusters asks who owns what when it is redirected, so here it keeps to one node"
_GO_REDIS = "go-redis; its client for clusters cannot read COMMAND of Redis 7, and keeps to one node"
_HEDIS = "its client for clusters cannot read COMMAND of Redis 7, and ends"
_PYTHON_REDIS = "its client for clusters ends if masters have no replicas"
LIBRARIES = (
    Library("Python", "redis", "redis", cluster=True, remark="redis-py"),
    Library("Python", "valkey", "valkey", cluster=True, remark="a fork of redis-py", counts=False),
    Library("Python", "coredis", "coredis", cluster=True),
    Library("Python", "valkey-glide", "valkey-glide", cluster=True, remark="its core began as redis-rs", counts=False),
    Library("Python", "redis-rs", "redis-rs", cluster=True, pipelines=False, remark="Rust's redis-rs"),
    Library("Python", "aioredis", "aioredis", remark="1.x, before it became a part of redis-py"),
    Library("Python", "asyncio-redis", "asyncio-redis", pipelines=False),
    Library("Python", "justredis", "justredis", cluster=True),
    Library("Python", "picoredis", "picoredis", pipelines=False, remark="for MicroPython"),
    Library("Python", "python-redis", "python-redis", remark=_PYTHON_REDIS),
    Library("Python", "rcc", "rcc", pipelines=False),
    Library("Python", "redio", "redio", remark="for Trio"),
    Library("Python", "redisio", "redisio"),
    Library("Python", "redtrio", "redtrio", pipelines=False, remark="for Trio"),
    Library("Python", "siderpy", "siderpy"),
    Library("Python", "txredisapi", "txredisapi", remark="for Twisted"),
    Library(
        "Python", "yaaredis", "yaaredis", cluster=True, remark="a fork of aredis, which also coredis was", counts=False
    ),
    Library("JavaScript", "redis", "redis", cluster=True, remark="node-redis"),
    Library("JavaScript", "redis-3", "redis", remark="node-redis before it was written anew"),
    Library("JavaScript", "ioredis", "ioredis", cluster=True),
    Library("JavaScript", "iovalkey", "iovalkey", cluster=True, remark="a fork of ioredis", counts=False),
    Library(
        "JavaScript",
        "@valkey/valkey-glide",
        "@valkey/valkey-glide",
        cluster=True,
        remark="a core in Rust",
        counts=False,
    ),
    Library("JavaScript", "bun", "bun", remark="the client that is built into Bun"),
    Library("JavaScript", "tedis", "tedis", pipelines=False),
    Library("JavaScript", "thunk-redis", "thunk-redis"),
    Library("JavaScript", "redis-fast-driver", "redis-fast-driver", remark="has a hiredis of its own", counts=False),
    Library("JavaScript", "@litert/redis", "@litert/redis"),
    Library("C", "hiredis", "libhiredis-dev"),
    Library("C++", "poco", "libpoco-dev", remark="Poco::Redis"),
    Library("Perl", "Redis", "libredis-perl"),
    Library("Perl", "Redis::Fast", "libredis-fast-perl", remark="has a hiredis of its own", counts=False),
    Library("Perl", "AnyEvent::Redis", "libanyevent-redis-perl"),
    Library("Lua", "redis", "lua-redis", remark="redis-lua"),
    Library("Ruby", "redis", "ruby-redis", cluster=True, remark="redis-rb"),
    Library("Ruby", "em_redis", "ruby-em-redis", remark="for EventMachine"),
    Library("PHP", "redis", "php-redis", cluster=True, remark="phpredis"),
    Library("PHP", "predis", "php-predis", cluster=True, remark=_PREDIS),
    Library(
        "Go", "redigo", "golang-github-gomodule-redigo-dev", cluster=True, remark="clusters by its companion redisc"
    ),
    Library("Go", "redis.v2", "golang-gopkg-redis.v2-dev", remark="an early go-redis", counts=False),
    Library("Go", "redis.v5", "golang-gopkg-redis.v5-dev", cluster=True, remark=_GO_REDIS),
    Library(
        "Haskell",
        "hedis",
        "libghc-hedis-dev",
        remark="its client for clusters cannot read what Redis 7 says to COMMAND",
    ),
    Library("Erlang", "eredis", "erlang-redis-client"),
)


def rows() -> Iterator[str]:
    """The rows of the table of docs/compatibility.md: the versions are those of versions.txt."""
    noted = dict(line.rsplit(" ", 1) for line in (FOLDER / "versions.txt").read_text().splitlines())
    for each in LIBRARIES:
        version = noted[f"{each.language} {each.name}"]
        tried = ["one node"] + ["pipelines"] * each.pipelines + ["cluster"] * each.cluster
        cells = (
            each.language,
            each.name,
            f"{each.package} {version}",
            ", ".join(tried),
            "yes" if each.counts else "no",
        )
        yield f"| {' | '.join(cells)} | {each.remark or '-'} |"
