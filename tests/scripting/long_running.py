"""Clients of a node that runs Lua, whose scripts run in a thread: what tests of long scripts share."""

from __future__ import annotations

from typing import Final

from server.core.base.config import Config
from server.core.node import Node
from server.core.services.script_workers import BEAT_MS
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node
from tests.scripting.nodes import PatientClient, decoded, run_lua

COMPUTES: Final = "local n = 0 for i = 1, 3000000 do n = n + i % 7 end "
ENDLESS: Final = "while true do end"


def client_of(config: Config = CONFIG) -> PatientClient:
    node = make_node(1, config)
    return PatientClient(node, run_lua(node))


def client_beside(client: PatientClient) -> PatientClient:
    """Another client of the same node."""
    return PatientClient(client.node, client.calls)


def eval_script(client: PatientClient, text: str, *words: str) -> object:
    return decoded(client.raw_words([b"EVAL", text.encode(), *[word.encode() for word in words]]))


def begin_script(client: PatientClient, text: str, *words: str) -> None:
    """Begins a script that does not end within the turn."""
    told = Client.raw_words(client, [b"EVAL", text.encode(), *[word.encode() for word in words]])
    assert told == b"", "it runs in a thread"


def pass_time(node: Node, client: PatientClient, until_ms: int) -> dict[object, bytes]:
    """Lets time pass until then, whatever threads do. Returns what each session got."""
    told: dict[object, bytes] = {}
    while client.now_ms < until_ms:
        client.now_ms += BEAT_MS
        node.wake(client.now_ms)
        for session, data in finish_turn(node).replies:
            told[session] = told.get(session, b"") + bytes(data)
    return told


def replies_to(client: PatientClient, *words: bytes) -> dict[object, bytes]:
    """Sends a command; what each session got in that turn."""
    client.node.command(client.session, list(words), client.now_ms)
    return {session: bytes(data) for session, data in finish_turn(client.node).replies}
