"""The border between nodes: each kind of message, question and answer, declared once, read whole, checked whole.

    reader.py       the items of a message, read one by one as typed values; `Malformed` for what cannot be read
    kinds.py        the kinds of messages, and the table of them
    comparison.py   how a replica answers a group of reads key by key
    asking.py       what a question declares
    record_questions.py, questions.py
                    the kinds of questions that an ASK carries, each with its answer, and the table of all
    shapes.py       JSON documents: bounded before they are parsed, and of a declared shape afterwards

A kind's declaration is the only place that knows its form. Who handles a message gets typed values and need not ask
whether the peer sent nonsense: what does not decode raises `Malformed` before anything has changed, and the shell ends
the connection. tests/core/messages/ damages each field of each kind of both tables in turn.
"""
