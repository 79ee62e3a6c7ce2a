"""A web page that makes a browser send HTTP to a node gets nothing done (cross protocol scripting)."""

from __future__ import annotations

import pytest

from protocol import resp
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.raw import exchange, raw

POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7001\r\nContent-Length: 17\r\n\r\nSET http:pwned 1\r\n"
REQUESTS = {
    "curl -d": (POST, b""),
    "a GET": (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:7001\r\n\r\nSET http:pwned 1\r\n",
        resp.error("ERR wrong number of arguments for 'get' command"),
    ),
    "in another case": (b"pOsT\r\nSET http:pwned 1\r\n", b""),
    "as an array": (resp.command("Host:", "x") + resp.command("SET", "http:pwned", "1"), b""),
    "behind commands that are answered first": (
        resp.command("SET", "http:k", "1") + resp.command("GET", "http:k") + resp.command("PING") + POST,
        resp.OK + resp.bulk(b"1") + resp.PONG,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REQUESTS)
def test_http_closes_the_connection(cluster: WireCluster, kind: str) -> None:
    said, answered = REQUESTS[kind]
    node = cluster.nodes[0]
    with node.client() as client:
        refused = client.info("dyn")["http_refused"]
        with raw(node.port) as connection:
            assert exchange(connection, said) == answered
        assert client.get("http:pwned") is None
        assert client.info("dyn")["http_refused"] == refused + 1
    wait_for(lambda: "possible attack" in node.log, "it is logged")
