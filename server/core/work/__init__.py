"""Work of several steps, without a task or a future: how it waits for answers and for time, and how it is paced.

procedures.py     a generator that is resumed by what it waits for
timers.py         pauses
questions.py      what one node asks of others outside the hot path
computing.py      long computations, some steps in each turn
background.py     procedures that no client waits for, and the budget that they share
"""
