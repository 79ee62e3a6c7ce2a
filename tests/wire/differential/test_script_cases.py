"""Scripts with commands on a node, and what they leave: the same bytes as from redis-server, in RESP2 and RESP3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster
from tests.wire.differential.exact import Pair
from tests.wire.differential.script_cases import script_cases
from tests.wire.differential.servers import redis_server, redis_version


@pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed")
def test_scripts_are_answered_as_redis_answers_them(cluster: WireCluster, tmp_path: Path) -> None:
    with redis_server(tmp_path) as port:
        pair = Pair(port, cluster.ports[0])
        try:
            found = [str(each) for each in pair.differences(script_cases())]
            assert not found, f"{len(found)} differences:\n" + "\n".join(found)
        finally:
            pair.close()
