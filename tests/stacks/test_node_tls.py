"""ioredis and node-redis over TLS, as a user, through nodes that let nobody else in (`make stacks-node`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.node import node_program
from tests.wire.tls import Cluster, tls_cluster

USER, PASSWORD = "app", "7a62e0a1c1f44b0fa3b6"
DYN = Path(__file__).parents[2] / ".venv/bin/dyn"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with a user of the keys and channels app:*, and no other way in."""
    made = tls_cluster(tmp_path_factory.mktemp("node"))
    with made[0].nodes[0].client() as admin:
        rules = ["on", f">{PASSWORD}", "~app:*", "resetchannels", "&app:*", "+@all", "-@dangerous", "+info", "+cluster"]
        assert admin.execute_command("ACL", "SETUSER", USER, *rules)
        assert admin.execute_command("ACL", "SETUSER", "default", "off")
    yield made
    made[0].dispose()
    made[0].assert_logs_clean()


@pytest.mark.parametrize("program", ["ioredis", "node_redis"])
def test_a_client_of_node_works_over_tls(shared: Cluster, program: str) -> None:
    _, home, ports = shared
    words = node_program(f"tls_{program}.js", str(home / "ca.crt"), USER, PASSWORD, *map(str, ports))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(" is content\n")


def test_dyn_takes_the_same_url(shared: Cluster) -> None:
    _, home, ports = shared
    url = f"rediss://{USER}:{PASSWORD}@localhost:{ports[1]}"
    for words, said in ((("set", "app:dyn", "v"), "stored: "), (("get", "app:dyn"), "v\n")):
        ended = subprocess.run(
            [DYN, "--cacert", home / "ca.crt", *words],
            env=os.environ | {"DYN_URL": url},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0 and ended.stdout.startswith(said), ended.stderr
