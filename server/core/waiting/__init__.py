"""Clients that wait for an element: BLPOP, BLMOVE, BZPOPMIN, XREAD and the like.

Theory. Two nodes share the work. The node of the client, its *home*, has its connection, its time limit, and the keys that
it still has to try. The coordinator of a key has a queue for the key, with one row for each client that waits. The home
sends attempts (DYN.TRY, commands/blocking/) to the coordinators of the keys, one after the other. An attempt pops an
element if there is one. If there is none, it leaves a row, in the same step, so that no element can arrive unseen in
between.

    calls.py        what a client waits for
    blocked.py      at the home: the clients that wait, and their attempts
    long_replies.py at the home: a long reply is encoded in slices
    rows.py         at the coordinator: the queues. When a turn has changed a key with rows, as many clients are woken as
                    the key has elements, in the order in which they came: their homes are told (WAKE) and try again
    order.py        at the coordinator: lets attempts run in the order in which their clients came
    deliveries.py   elements that were popped and have not reached their client: they are put back if they never do
    receiving.py    the messages between home and coordinator

Only the home decides for which key a client pops, and it has one attempt in flight at a time. So a client that waits for
keys of several coordinators gets one element, and nothing is popped for a client that has gone before. A client that waits
costs no work. It is a row in a dictionary, and perhaps a timer at its home.

Clients that wait for entries of a stream (XREAD) have rows of the same kind. Nothing is popped for them, so all are woken.

When routes change. If a key gets another coordinator, or the link to a coordinator breaks, the home tries again, and so
leaves a row at the new coordinator; it does so for some clients each turn. A coordinator drops the rows of a node that it
has lost. If a woken client's home does not try (because it is suspended), the client goes to the end of its queue after
`CALL_MS`, and the next client is woken."""
