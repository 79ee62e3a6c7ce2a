"""Work of several steps, without tasks or futures: how it waits for answers and for time, and how it is paced.

procedures.py     a generator that yields steps and is resumed with their results
timers.py         sleep until a time, and calls at a time
questions.py      what one node asks of others outside the hot path
computing.py      long computations that do a part of their work in each turn
background.py     procedures that no client waits for, and the budget that they share
"""
