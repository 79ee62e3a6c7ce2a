"""The client: every way a call can end, each with the node's address in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynamo_cli.addresses import Address
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus, Failure, NotReached, Refused
from tests.cli.scripted import Close, Raw, Reply, ScriptedNode, Silence
from tests.ports import free_ports

Scripted = Callable[[dict[str, Reply]], ScriptedNode]


def connect(node: ScriptedNode, timeout_s: float = 5) -> Client:
    return Client(Address("127.0.0.1", node.port), timeout_s)


def test_a_reply_comes_as_it_is_and_the_command_arrives_byte_for_byte(scripted: Scripted) -> None:
    node = scripted({"A": [b"\x00\xff\r\n", 7, None, []], "B": "OK"})
    with connect(node) as client:
        assert client.call("A", b"\r\n\x00", 12) == [b"\x00\xff\r\n", 7, None, []]
        assert client.call("B") == b"OK"
    assert node.calls == [[b"A", b"\r\n\x00", b"12"], [b"B"]]


def test_a_reply_larger_than_one_read_is_put_together(scripted: Scripted) -> None:
    value = bytes(range(256)) * 4096
    with connect(scripted({"A": value})) as client:
        assert client.call("A") == value


def test_a_pipeline_has_more_time_the_more_bytes_it_has(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []
    receive = Client._receive

    def noted(client: Client, deadline: float) -> object:
        deadlines.append(deadline)
        return receive(client, deadline)

    monkeypatch.setattr(Client, "_receive", noted)
    with connect(scripted({"A": "OK"}), timeout_s=600) as client:
        for size in (1, 1 << 20):
            assert client.pipeline([(b"A", bytes(size))]) == [b"OK"]
    small, large = deadlines
    assert large - small >= 4 * 600


def test_an_error_reply_is_shown_as_it_came_with_the_node(scripted: Scripted) -> None:
    node = scripted({"A": "-NOQUORUM write: got=1 wanted=2"})
    with connect(node) as client, pytest.raises(Refused) as refused:
        client.call("A")
    assert refused.value.message == f"{node.address} answered: NOQUORUM write: got=1 wanted=2"
    assert refused.value.code == "NOQUORUM"
    assert refused.value.hint is not None
    assert "dyn cluster status" in refused.value.hint


def test_an_error_reply_that_is_not_utf8_is_still_an_error_reply(scripted: Scripted) -> None:
    with connect(scripted({"A": Raw(b"-ERR \xff\r\n")})) as client, pytest.raises(Refused, match="ERR"):
        client.call("A")


def test_a_redis_server_is_recognised(scripted: Scripted) -> None:
    with connect(scripted({})) as client, pytest.raises(Refused) as refused:
        client.call("DYN.GET", b"k")
    assert refused.value.hint == "is it a dyn node? A Redis server answers like this"


def test_a_command_that_no_node_knows_says_nothing_of_the_node(scripted: Scripted) -> None:
    with connect(scripted({})) as client, pytest.raises(Refused) as refused:
        client.call("NOSUCH", b"DYN.GET")
    assert refused.value.hint is None


def test_nobody_listens() -> None:
    port = free_ports(1)
    with pytest.raises(NotReached, match=f"127.0.0.1:{port}: connection refused") as failed:
        Client(Address("127.0.0.1", port))
    assert failed.value.status == ExitStatus.NOT_REACHED
    assert failed.value.hint is not None


def test_a_silent_node_is_given_up_and_a_write_is_said_to_be_open(scripted: Scripted) -> None:
    node = scripted({"A": Silence})
    with connect(node, 0.02) as client, pytest.raises(NotReached, match=r"did not answer A within 0.02 s$"):
        client.call("A")
    with connect(node, 0.02) as client, pytest.raises(NotReached, match="it may or may not have been carried out"):
        client.call("A", writes=True)


def test_a_node_that_hangs_up_is_not_reached(scripted: Scripted) -> None:
    node = scripted({"A": Close})
    with connect(node) as client, pytest.raises(NotReached, match=f"lost {node.address} during A"):
        client.call("A")


def test_half_a_reply_is_none(scripted: Scripted) -> None:
    with connect(scripted({"A": Raw(b"$5\r\nab")}), 0.02) as client, pytest.raises(NotReached, match="did not answer"):
        client.call("A")


@pytest.mark.parametrize("answer", [Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), b"not json", b"[1]", 5, b"\xff", None])
def test_what_is_not_a_document_is_no_dyn_node(scripted: Scripted, answer: Reply) -> None:
    with connect(scripted({"DYN.RING": answer})) as client, pytest.raises(Failure) as failed:
        client.document("DYN.RING", "SHOW")
    assert failed.value.hint == "is it a dyn node?"
    assert "DYN.RING SHOW" in failed.value.message
