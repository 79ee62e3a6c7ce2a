"""Strings in parts and in bits, renamed and told of: byte for byte as redis-server answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster
from tests.wire.differential.exact import Pair
from tests.wire.differential.servers import redis_server, redis_version
from tests.wire.differential.string_cases import string_cases

pytestmark = pytest.mark.skipif(
    redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed"
)
# A value may have 16 MiB here. A bit or a part behind that is refused as Redis refuses one behind its own limit.
SAME_LIMIT = ("--proto-max-bulk-len", "16mb")


def test_strings_are_answered_as_redis_answers_them(cluster: WireCluster, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *SAME_LIMIT) as port:
        pair = Pair(port, cluster.ports[0])
        found = pair.differences(string_cases(), is_thorough=False)
        pair.close()
    assert not found, f"{len(found)} differences:\n" + "\n".join([str(each) for each in found[:20]])
