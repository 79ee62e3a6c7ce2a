"""The border between nodes: each kind of message, question and answer is declared once, and read and checked whole.

    reader.py       reads the items of a message as typed values; raises `Malformed` for what cannot be read
    kinds.py        the kinds of messages, and their table
    comparison.py   how a replica answers a read group key by key
    asking.py       what a question declares
    record_questions.py, questions.py
                    the kinds of questions that an ASK carries, each with its answer, and the table of all kinds
    shapes.py       JSON documents: limited before they are parsed, then checked against a declared shape
    stored.py       the same checks for a node's own documents on its disk

Only the declaration of a kind knows its form. A handler gets typed values, and need not check them again. What does not
decode raises `Malformed` before anything has changed, and the shell closes the connection. tests/core/messages/ damages
each field of each kind of both tables in turn.
"""
