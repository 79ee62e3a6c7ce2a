"""PURE: every decision of a node. No asyncio, sockets, files, clocks or chance of its own; see server/__init__.py.

The rooms, from the ground up. Each imports those above it in this list only (tests/test_tidy.py holds that), and its own
docstring is its map:

    formats/      the bytes and texts that Redis has for its types: pure functions that know nothing of this project
    ring/         which node owns which partition, and what a change moves: documents and computations
    records/      what is stored under a key, what this node stores, and the hash tree over it
    liveness/     the failure detector: which nodes are alive, as one node sees it
    shared/       a document that all nodes keep: entries with versions, and how two such documents merge
    users/        what a user is, its rules, and the document of all users of a cluster
    scripts/      what an engine for scripts is to the core, and the first line of a script
    messages/     the messages between nodes: each kind declared once, encoded, read and checked whole
    base/         what all other rooms build on: config, clocks, errors, replies, routes, and the shared state
    work/         procedures of several steps, without tasks or futures
    requests/     clients' reads and writes, from the coordinator to the replicas and back
    waiting/      clients that wait for an element of a key (BLPOP)
    collection/   removes tombstones, expired values and long clocks after all members have agreed
    repair/       owners that differ become equal, and what was damaged is fetched again
    membership/   how nodes come, fetch what they are to own, and leave
    pubsub/       messages that are delivered and not stored
    services/     the object by which all that follows uses these parts, and how the parts are built
    operators/    what operators see and prepare
    commands/     what clients say

Above the rooms, in this order, too:

    outbox.py, gossip.py           what a turn leaves behind, and what is sent to a peer once in a while
    chains.py, retries.py, dispatch.py
                                   what comes in from clients
    incoming.py, peer_messages.py  what comes in from other nodes
    answerers.py                   who answers each kind of question
    node.py                        the seam to the shell and to the simulator

Promises and the room that keeps each: P1 node.py (end_turn: commit, then speak) with shell/durability.py; P2 base/clock.py;
P3 records/versions.py; P4 base/quorum.py; P5 requests/groups.py and base/sinks.py; P9 ring/layout.py; P10 base/config.py;
P11 records/versions.py, records/records.py and protocol/frames.py.
"""
