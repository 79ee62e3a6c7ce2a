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
    chains.py, dispatch.py         clients' commands: their order, and where they run
    retries.py                     relayed commands that came back: another attempt, or an answer
    incoming.py, peer_messages.py  messages of other nodes: how they are checked, and who handles them
    storing.py                     stores the records that coordinators send, and confirms them
    answerers.py                   who answers each kind of question
    node.py                        the seam to the shell and to the simulator

The promises, which docstrings cite by number, and where each is kept:

    P1   an acknowledged write survives a crash; it is lost only with the disks    node.py (commit, then speak),
         of W of the nodes that acknowledged it                                    shell/durability.py
    P2   a dot is never issued twice, and an actor never forgets what it issued    base/clock.py, base/state.py
    P3   a merge is commutative, associative and idempotent, and drops only what   records/versions.py
         a write has superseded; equal records are equal bytes
    P4   a quorum counts distinct replicas, and its verdict never changes          base/quorum.py
    P5   each request gets exactly one answer, by its deadline and in the order    requests/groups.py, base/sinks.py
         of its connection; an error says what is known of the outcome
    P6   a hint goes only when its owner has confirmed it, or when that node has   base/hints.py,
         left and the present owners have the record                               repair/hint_replay.py
    P7   a tombstone goes only when every owner has it, so nothing deleted or      collection/collection.py
         expired comes back
    P8   a node drops a record that it does not own only when all present owners   membership/cleanup.py
         have confirmed it
    P9   of two layouts the one with the higher epoch rules; a plan for an older   ring/layout.py, membership/
         epoch is refused
    P10  every queue and buffer has a limit; at the limit there is a clear error   base/config.py
    P11  every record, message between nodes and context has a checksum; what is   records/records.py,
         damaged is reported, never served, and mended from the other owners       protocol/frames.py
"""
