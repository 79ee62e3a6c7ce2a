"""The same commands go to a redis-server and to nodes of ours, and the replies must be equal, byte for byte.

Theory. What a command answers at the edges of its arguments is nowhere written down as exactly as in redis-server itself,
so it is the reference. Two kinds of cases are made:

    cases.py      what stands in one connection or in the options of a few commands, exhaustively
    sequences.py  random sequences of all commands that both servers have, made from the usage lines of the command table,
                  so that a command is covered from the moment that it is in the table

    servers.py    a redis-server, and connections that give replies as bytes
    words.py      the words that stand for the placeholders of usage lines: usual ones, and those at the edges
    calls.py      a random call of a command, from its usage line
    running.py    runs a sequence on both, and finds the first reply that differs, or a key that differs in the end
    replies.py    when two replies are equal: order, chance and time may differ where Redis' own replies do
    shrinking.py  makes a sequence that differs as short as it can, and prints the script that reproduces it
    hunt.py       `python -m tests.wire.differential.hunt --seconds 60`: a long run by hand

Known differences stand in server/core/commands/deviations.py, which the manual page shows.

Sequences come from a seeded generator and not from Hypothesis. The time of CI bounds the number of commands, and draws of
Hypothesis would take a part of it.
What Hypothesis gives for it is shrinking, which for a list of commands is forty lines (shrinking.py).
"""
