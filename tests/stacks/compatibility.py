"""`python -m tests.stacks.compatibility`: prints docs/compatibility.md, from the command table and from the stacks' tests.

redis-7.4-commands.txt lists every command of Redis 7.4: its group, its name, and the release that has brought it. The
versions of the stacks are those that were installed when `python -m tests.stacks.compatibility versions` was run last
(versions.txt), and those of node/package-lock.json; those of client libraries are in clients/versions.txt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from server.core.commands.cluster import _REFUSALS
from server.core.commands.deviations import DEVIATIONS
from server.core.commands.table import COMMANDS
from tests.stacks import clients, test_caches, test_job_queues, test_node, test_redis_py, test_web

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "compatibility.md"
MODULES = (test_redis_py, test_web, test_caches, test_job_queues, test_node)
_PREFACE = """\
# What runs on dyn

Made by `make pages` from the command table and from the tests in `tests/stacks`; a test holds that it is current.

## Stacks

`make stacks` tries each stack unchanged, from its own package and with its default settings, in a healthy cluster of
three nodes and while one node is killed (`kill -9`) and comes back and another one is frozen (SIGSTOP). All its
connections go to one node that stays well. Then whatever was acknowledged must be there, each job done and each result
back. A command that must not run twice (INCR, SET NX, a script, a push that is no part of a move, see below) and whose
coordinator dies in that moment is answered TIMEOUT: its outcome is unknown, as with any server that dies, and the tests
allow few of them. `make stacks` runs all; those of redis-py run in CI, too. On a machine that is busy otherwise the tests
with failing nodes run into their time limits.

A library may put a job back by a MULTI that removes it from some keys and pushes it to another one, of another slot.
Celery does. If the node that coordinates the list dies in that moment, the push is run again by the next owner: the job
is not lost, and may be done twice. If the node that the worker is connected to dies in the middle of it, a part has
run; with keys of one slot it is whole or nothing: in Celery that is `broker_transport_options = {"global_keyprefix":
"{celery}"}`.

A Celery worker that is answered an error while it puts its tasks back ends without the others (with redis-server, too,
if its connection breaks then). They stay in `unacked` and are done after `visibility_timeout`, an hour by default.
Choose it a little longer than the longest task: `broker_transport_options = {"visibility_timeout": 600}`.

An arq worker that is answered TIMEOUT (for the INCR of its retries) ends, as it does when its connection to Redis
breaks. The jobs that it was at begin again when their `arq:in-progress:` keys expire: `job_timeout` and ten seconds
later, 310 s by default. An rq worker that is answered so when it counts a job (HINCRBY) notes the job as failed though
it was done.

| stack | packages | what is tested |
|---|---|---|
"""
_CLIENTS = """
## Client libraries

`make stacks-clients` lets each of these libraries of other people connect to a node of three with its defaults, and do SET,
GET, INCR, HSET and HGET, and ten INCRs as a pipeline where it has pipelines; where it has a client for clusters, that one
does the same, and has to connect to other nodes, too. What it has written is read from another node. A library counts if it
speaks to the server with code of its own that no other one here has: {} do.

| language | library | package | tried with | counts | |
|---|---|---|---|---|---|
"""
_COMMANDS = """
## Commands

Every command of Redis 7.4. "yes": no difference is known. The manual page
dyn-commands(7) says more about each, and what happens during a partition.

"""
_WHY_NOT = {
    "bgrewriteaof": "every change is on disk as the setting fsync says",
    "bgsave": "dyn export writes an RDB file",
    "failover": "there are no masters: any node takes over at once",
    "lastsave": "every change is on disk as the setting fsync says",
    "lolwut": "for fun",
    "migrate": "dyn import copies from a server",
    "pfdebug": "for those who develop Redis",
    "pfselftest": "for those who develop Redis",
    "psync": "nodes replicate in their own way; dyn import --follow copies from a server",
    "replconf": "nodes replicate in their own way",
    "replicaof": "nodes replicate in their own way; dyn import --follow copies from a server",
    "restore-asking": "any node serves every key, so nothing is asked for",
    "save": "dyn export writes an RDB file",
    "shutdown": "dyn down, or SIGTERM",
    "slaveof": "nodes replicate in their own way",
    "sync": "nodes replicate in their own way",
    "xack": "streams have no consumer groups",
    "xautoclaim": "streams have no consumer groups",
    "xclaim": "streams have no consumer groups",
    "xgroup": "streams have no consumer groups",
    "xpending": "streams have no consumer groups",
    "xreadgroup": "streams have no consumer groups",
}
_NOT_YET = "not yet"


def stacks() -> Iterator[Any]:
    """The classes of all stacks, in the order of their tests."""
    for module in MODULES:
        yield from module.KINDS


def installed() -> str:
    """The versions of the packages in Python that are installed, a line each."""
    names = {name for kind in stacks() if not _is_of_node(kind) for name in kind.packages}
    found = {name: _version(name) for name in sorted(names)}
    return "".join(f"{name} {version}\n" for name, version in found.items())


def _version(name: str) -> str:
    paths = [*sys.path, str(test_job_queues.Arq.folder)]
    return next(each.version for each in metadata.distributions(name=name, path=paths))


def _is_of_node(kind: Any) -> bool:
    return issubclass(kind, test_node.NodeStack | test_job_queues.BullMq)


def _versions() -> dict[tuple[bool, str], str]:
    """The versions by whether a package is one of Node.js, and by name."""
    lines = (FOLDER / "versions.txt").read_text().splitlines()
    found = {(False, name): version for name, version in map(str.split, lines)}
    lock = json.loads((FOLDER / "node" / "package-lock.json").read_text())
    for path, package in lock["packages"].items():
        found[True, path.removeprefix("node_modules/")] = package.get("version", "")
    return found


def page() -> str:
    """The page as Markdown."""
    versions, lines = _versions(), [_PREFACE.rstrip("\n")]
    for kind in stacks():
        packages = [f"{name} {versions[_is_of_node(kind), name]}" for name in kind.packages]
        what = " ".join((kind.__doc__ or "").split())
        lines.append(f"| {kind.__name__} | {', '.join(packages)} | {what} |")
    lines += [_CLIENTS.format(sum(each.counts for each in clients.LIBRARIES)).rstrip("\n"), *clients.rows()]
    return "\n".join(lines) + "\n" + _COMMANDS + "\n".join(_command_lines()) + "\n"


def _command_lines() -> Iterator[str]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for line in (FOLDER / "redis-7.4-commands.txt").read_text().splitlines():
        group, name, since = line.split()
        groups.setdefault(group, []).append((name, since))
    ours = {spec.name for top in COMMANDS for spec in (top.subcommands or (top,))}
    told = {name: _answer(name, ours) for rows in groups.values() for name, _ in rows}
    works = sum(answer == "yes" for answer in told.values())
    differs = sum(answer.startswith("differs") for answer in told.values())
    yield f"{works} work, {differs} differ in something, {len(told) - works - differs} are not there."
    for group, rows in groups.items():
        yield f"\n### {group}\n\n| command | since | here |\n|---|---|---|"
        for name, since in rows:
            yield f"| {name.replace('|', ' ').upper()} | {since} | {told[name]} |"


def _answer(name: str, ours: set[str]) -> str:
    top, _, subcommand = name.partition("|")
    if top == "cluster" and subcommand in _REFUSALS:
        return f"no: {' '.join(_REFUSALS[subcommand][-1].split())}".replace("|", "\\|")
    if name not in ours:
        return f"no: {_WHY_NOT.get(name) or _WHY_NOT.get(top) or _NOT_YET}"
    texts = dict.fromkeys(each.text for each in DEVIATIONS if each.is_of(name))
    return f"differs: {' '.join(texts)}".replace("|", "\\|") if texts else "yes"


if __name__ == "__main__":
    sys.stdout.write(installed() if sys.argv[1:] == ["versions"] else page())
