"""A redis-server 7.0 of its own, against which the formats are checked; without it these checks are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a redis-server 7.0 without limits to what it restores."""
    from tests.wire.differential.servers import (  # it imports what `--compiled` must import first
        redis_server,
        redis_version,
    )

    if redis_version() != "7.0":
        pytest.skip("redis-server 7.0, which the formats are compared with, is not installed")
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def redis(redis_port: int) -> Iterator[redis_py.Redis]:
    """A client of that server, which has no keys. It gives replies as they came."""
    with redis_py.Redis(port=redis_port, protocol=2) as client:
        client.response_callbacks.clear()
        client.flushall()
        yield client
