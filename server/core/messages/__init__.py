"""The border between nodes: each kind of message, question and answer is declared once, encoded, read and checked whole.

    reader.py       reads the items of a message as typed values; raises `Malformed` for what cannot be read
    kinds.py        the kinds of messages that requests consist of
    announcements.py
                    the kinds by which nodes announce things: clocks, liveness, layouts, their stores
    users.py        the kinds by which nodes share the document of users
    libraries.py    the kinds, and the questions, by which nodes share the libraries of functions
    numberings.py   the kinds, and the questions, by which nodes share the numbering of databases
    queues.py       the kinds by which nodes serve clients that wait for elements
    publications.py the kinds by which nodes share what clients publish, and tell each other which keys have changed
    traces.py       the envelope of messages of traced requests, and the question for what a node has noted of one
    comparison.py   how a replica answers a read group key by key
    asking.py       what a question declares
    record_questions.py, exchange_questions.py, questions.py
                    the kinds of questions that an ASK carries, each with its answer, and the table of all kinds
    shapes.py       JSON documents: limited before they are parsed, then checked against a declared shape
    stored.py       the same checks for a node's own documents on its disk

Only the declaration of a kind knows its form. A sender hands over typed values (the `encode_` functions, and `write` of
a question), and never names a kind or the order of its fields. A handler gets typed values, and need not check them
again. What does not decode raises `Malformed` before anything has changed, and the shell closes the connection.
tests/core/messages/ damages each field of each kind of both tables in turn, and checks that each kind is written as it
is read.

    COMPARE, SAME, DIFFER             a coordinator's reads, and an owner's answers (comparison.py)
    READ, SAME, RECORDS               the same for nodes of earlier versions
    STORE, KEEP, HINT                 records for an owner, to be confirmed at once or with the next tick, or for a fallback
    PATCH, UNFIT                      a STORE with what has changed of large records, and the answer if that does not fit
    STORED, KEPT, REFUSED             their confirmations, and the answer to requests that this node cannot do
    COVERED                           the STORE that comes next answers relayed commands, too
    RELAY, RELAYED                    commands for another coordinator, and its replies
    ASK, ANSWER                       questions outside the hot path
    GOSSIP, CLOCK, LAYOUT             who is alive, the sender's monotonic clock, who owns what
    TIME, TIMED                       asks for, and answers, the wall clock and cluster time (cluster_time.py)
    VIEW                              which layout its sender has
    TRACED                            another message, of a traced request (traces.py)
    MARK                              up to which turn its sender's disk is synced (rollback.py)
    STAGED                            what operators have staged for the next layout
    USERS, USERSVIEW                  the users of the cluster, and a digest of them (services/users.py)
    LIBRARIES, LIBVIEW                the libraries of functions, and a digest of them (services/functions.py)
    NUMBERS, NUMVIEW                  the numbering of databases, and a digest of it (services/numbering.py)
    WAKE, FORGET                      clients that wait for elements of a key: there are some; they wait no more
    ESCROW, CLEARED, OPENED, SETTLED  elements on their way to such clients (waiting/deliveries.py)
    PUBLISHED                         what clients of its sender have published (pubsub/)
    ALTERED, MADE                     the same with the records before and after; a change that a relayed command has made
    FLUSHED                           a client of its sender has deleted all keys of a database, or of all
    WATCHING, CHANGED                 whether its sender wants to know which keys change, and those of its sender
    NOTIFY                            which keyspace events are published (pubsub/notifications.py)
    FULL                              what its sender's disk has room for: 0 for writes again, see room.py
    ORDERLY                           its sender runs relayed commands of one key in order (chains.py), and takes short
                                      digests (reads.py)
    COPY                              a process with your id, at that address, has been refused (duplicates.py)
    POISON                            a command has ended the sender: refuse it for a while (quarantine.py)
    CLOCKOFF                          the receiver's clock is too far ahead to be followed (clock_report.py)
"""
