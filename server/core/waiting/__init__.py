"""Clients that wait for an element: BLPOP, BLMOVE, BZPOPMIN, XREAD and the like (DESIGN §15).

Theory. Two nodes share the work. The node of the client, its *home*, keeps the client: the time limit, the connection, and
which keys it still has to try. The key's coordinator keeps one row for it, in a queue for each key. The command itself is
an attempt, DYN.TRY, which the home sends to the coordinator of one key after the other (commands/blocking/): it pops if
there is something, and else leaves a row there, in the same step. So no element can come in between unseen.

    blocked.py      at the home: the clients that wait, and their attempts
    rows.py         at the coordinator: the queues. When a turn has changed a key with rows, so many clients as the key has
                    elements are woken, the first ones first: their homes are told (WAKE) and try again
    deliveries.py   elements that were popped and have not reached their client: put back if they never do
    receiving.py    the messages between them

Only the home decides for which key a client pops: it has one attempt under way at a time. So a client that waits for keys
of several coordinators gets one element, and none is popped for a client that has gone before. A client that waits costs
no work: there is a row in a dictionary, and perhaps a timer at its home.

Clients that wait for entries of a stream (XREAD) have rows of the same kind; nothing is popped for them, so all are woken.

Rows move. If the route of a key changes, or the link to a coordinator breaks, the home tries again, and so leaves a row at
the new coordinator, some clients a turn. A coordinator drops the rows of a node that it has lost. A woken client whose home
does not try (a frozen node) goes to the end of its queue after `CALL_MS`, and the next one is woken.
"""
