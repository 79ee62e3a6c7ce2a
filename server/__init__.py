"""The node: a pure core that decides, engines that keep, a thin shell that talks.

The life of a request, and the order in which to read the files:

    shell/connections.py   bytes of a client become commands (protocol/requests.py) and go to the node
    core/node.py           the seam: command, receive, tick, take; everything below is behind it
    core/dispatch.py       look-up, arity, and what of one connection may run side by side
    core/commands/         one module a family of commands; spec.py says what a command is, table.py lists them
    core/routing.py        who coordinates the key's writes and who may serve its reads, by layout and liveness
    core/relays.py         a command for another coordinator travels there, and its reply back
    core/reads.py          quorum reads      } groups of one turn that ask the same owners (core/groups.py),
    core/writes.py         quorum writes     } counted by one tally (core/quorum.py)
    core/peer_messages.py  what nodes say to each other: the table of message kinds
    core/replica.py        the other side: merge, acknowledge, tell
    core/hints.py          which owners miss what is held here; core/hint_replay.py brings it to them
    core/background.py     procedures that nobody waits for, and their pace
    core/trees.py          the hash tree of what is stored here; core/exchange.py makes two nodes equal by it:
                           core/anti_entropy.py all the time, core/repair_tasks.py when an operator asks
    core/layout.py         the members, and who owns each partition; core/change.py says what an operator wants of that,
                           core/succession.py which layout follows which, core/reassignment.py which owners, and
                           core/preview.py what then moves
    core/membership.py     how a node comes to a layout, spreads it, and leaves; core/steward.py ends each phase of a change
    core/transfers.py      a new owner fetches what it is to own; core/eviction.py lets go what is kept elsewhere
    core/collection.py     tombstones, expired values and long clocks go when all members agree: core/votes.py is a
                           member's part in it, core/late.py what it refuses from then on
    core/staging.py        what operators want of the next layout; core/planning.py what it would move, core/status.py
                           how far it is
    core/farewell.py       ends what has been begun before the node stops
    core/scrub.py          reads everything again and again; core/mending.py fetches what was found damaged
    core/versions.py       the record: dotted version vector set, its bytes, its merge
    core/records.py        what is stored here, as this turn sees it; storage/ has the engines beneath
    core/sinks.py          answers, each exactly once and in command order
    shell/server.py        the end of the turn: commit, then one write to each peer, then the replies
    shell/durability.py    when a turn may speak: the fsync policies
    shell/links.py         our connections to the other nodes

A SET of a key that another node coordinates: connection -> dispatch -> strings.set_ -> relays; there: relays -> dispatch
-> strings.set_ -> versions.supersede -> writes; at the replicas: replica.store; back: writes -> relays -> session.
"""
