"""HOST:PORT and DYN_URL."""

from __future__ import annotations

import pytest

from dynamo_cli.addresses import Address, parse_address, parse_url, urls_in
from dynamo_cli.failures import WrongUsage


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7001", Address("127.0.0.1", 7001)),
        ("node.example:1", Address("node.example", 1)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "7001", "host", "host:", ":7001", "host:0", "host:65536", "host:x", "host:²", "::1:7001"]
)
def test_what_is_no_address_is_refused_and_shown(text: str) -> None:
    with pytest.raises(WrongUsage, match="is not HOST:PORT") as refused:
        parse_address(text)
    assert f"'{text}'" in refused.value.message


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://10.0.0.1:7002", Address("10.0.0.1", 7002)),
        ("redis://10.0.0.1", Address("10.0.0.1", 7001)),
        ("redis://10.0.0.1:7002/", Address("10.0.0.1", 7002)),
        ("redis://10.0.0.1:7002/0", Address("10.0.0.1", 7002)),
        ("redis://[::1]", Address("::1", 7001)),
        ("redis://[::1]:7003/0", Address("::1", 7003)),
    ],
)
def test_a_url_as_redis_clients_have_it(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:7001",
        "http://127.0.0.1",
        "redis:/x",
        "redis://h:7001/16",
        "redis://h:7001/x",
        "redis://",
        "redis://h:x",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(WrongUsage, match="DYN_URL"):
        parse_url(url)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("redis://a:7001", ["redis://a:7001"]),
        ("redis://a:7001,b:7002", ["redis://a:7001", "redis://b:7002"]),
        ("redis://a:7001,redis://b:7002/3", ["redis://a:7001", "redis://b:7002/3"]),
        ("rediss://u:p,q@a:7001,[::1]:7002/3", ["rediss://u:p,q@a:7001/3", "rediss://u:p,q@[::1]:7002/3"]),
        ("redis://u:p@a,redis://u:p@b", ["redis://u:p@a", "redis://u:p@b"]),
    ],
)
def test_dyn_url_may_name_several_nodes(text: str, urls: list[str]) -> None:
    assert urls_in(text) == urls
