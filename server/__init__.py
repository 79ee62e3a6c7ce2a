"""The node: a pure core that decides, engines that keep, a thin shell that talks.

The life of a request, and the order in which to read the files:

    shell/connections.py          bytes of a client become commands (protocol/requests.py) and go to the node
    shell/admission.py            which connections may begin commands now: a budget, and a fair queue
    shell/context.py              when the turn ends that these commands are part of
    core/node.py                  the seam: command, receive, tick, end_turn; everything below is behind it
    core/base/state.py            what the parts of a node share: which of it is durable, computed, learned, or output
    core/services/                the parts themselves, how they are built, and the object by which commands use them
    core/dispatch.py              look-up, arity, and what of one connection may run side by side
    core/base/lanes.py            the order of a connection's commands, key by key
    core/chains.py                commands of one key that depend on each other, run without a pause
    core/commands/                one module a family of commands; spec.py says what a command is, table.py lists them,
                                  execution.py runs one
    core/base/routing.py          who coordinates the key's writes and who may serve its reads, by layout and liveness
    core/requests/relays.py       a command for another coordinator travels there, and its reply back
    core/retries.py               what becomes of it if that coordinator does not answer
    core/requests/reads.py        quorum reads      } groups of one turn that ask the same owners (requests/groups.py),
    core/requests/hedging.py      which owners a read asks, and when it asks one more
    core/requests/writes.py       quorum writes     } counted by one tally (base/quorum.py)
    core/messages/                what nodes say to each other: each kind of message, encoded and read in one place
    core/incoming.py              a message is read, also beside the request that it answers, before anything changes
    core/peer_messages.py         which part of the node handles each kind
    core/answerers.py             the same for questions outside the hot path
    core/requests/replica.py      the other side: merge, acknowledge, tell
    core/records/versions.py      the record: dotted version vector set, its bytes, its merge
    core/records/records.py       what is stored here, as this turn sees it; storage/ has the engines beneath
    core/base/sinks.py            answers, each exactly once and in command order
    core/outbox.py                what a turn leaves behind
    shell/turn.py                 the end of the turn: commit, then turn_sender.py: one write to each peer, then the replies
    shell/durability.py           when the messages and replies of a turn may leave: the fsync policies
    shell/memory.py               what is held for clients, bounded over all of them
    shell/links.py                our connections to the other nodes; inbound.py has theirs to us
    shell/server.py               puts the parts of the shell together, and stops them
    shell/crash.py                how the process ends by what no code expected (the rule: core/base/unexpected.py)

A SET of a key that another node coordinates: connection -> dispatch -> strings.set_ -> relays; there: relays -> dispatch
-> strings.set_ -> versions.supersede -> writes; at the replicas: replica.store; back: writes -> relays -> session.

What goes on beside the requests, each a room of core/ with a map of its own: who owns what (ring/) and who lives
(liveness/), how nodes come and go (membership/), how owners become equal (repair/), how the dead is forgotten
(collection/), and what operators see of all that (operators/).
"""
