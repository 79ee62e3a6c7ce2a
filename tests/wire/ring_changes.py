"""Changing the ring of a real cluster as an operator does: staged, looked at, committed, and followed to the end."""

from __future__ import annotations

import json
from typing import Any

import redis

from tests.wire.cluster import WireNode, dyn, wait_for

CHANGE_S = 180.0


def run(node: WireNode, *words: str) -> dict[str, Any]:
    """What `dyn cluster WORDS --json` answers, asked of `node`; it must succeed."""
    done = dyn("--host", node.host.address, "cluster", *words, "--json", port=node.port)
    assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def status_text(node: WireNode) -> str:
    """What `dyn cluster status` says, asked of `node`."""
    done = dyn("--host", node.host.address, "cluster", "status", port=node.port)
    assert not done.stderr, done.stderr
    return done.stdout.decode()


def commit(node: WireNode) -> dict[str, Any]:
    """Commits what is staged. Returns the plan."""
    plan = run(node, "plan")
    run(node, "commit", "--epoch", str(plan["epoch"]))
    return plan


def fetched(node: WireNode) -> int:
    """How many keys a joining node has fetched, as `node` tells it."""
    for entry in node.document("DYN.CLUSTER", "STATUS")["nodes"]:
        if entry.get("transfer"):
            return int(entry["transfer"]["keys_done"])
    return 0


def is_settled(node: WireNode, epoch: int, members: int) -> bool:
    """Whether, in this node's eyes, the change to `epoch` is over and nobody is about to leave."""
    try:
        status = node.document("DYN.CLUSTER", "STATUS")
    except (redis.ConnectionError, redis.ResponseError):
        return False
    return bool(
        status["epoch"] >= epoch
        and not status.get("change")
        and [entry["role"] for entry in status["nodes"]] == ["member"] * members
    )


def wait_settled(nodes: list[WireNode], epoch: int) -> None:
    """Waits until `nodes`, which are to be all the members, agree that the change is over and nobody holds too much."""
    for node in nodes:
        wait_for(lambda node=node: is_settled(node, epoch, len(nodes)), f"{node.name} is settled", CHANGE_S)  # type: ignore[misc]


def change(nodes: list[WireNode], *changes: tuple[str, ...]) -> dict[str, Any]:
    """Stages the changes through the first of `nodes` and commits them. Returns the plan."""
    for words in changes:
        run(nodes[0], *words)
    return commit(nodes[0])
