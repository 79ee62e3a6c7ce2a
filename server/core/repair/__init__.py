"""Repair: owners that differ become equal, and what was damaged is fetched again.

hint_replay.py    brings owners what they missed
exchange.py       makes two nodes equal by their hash trees; exchange_answers.py is the side that is asked
anti_entropy.py   does that all the time, with every fellow owner
tasks.py          does it when an operator asks: by jobs (jobs.py), or for one key (one_key.py)
scrub.py          reads everything again and again, verification.py does it for a task; mending.py fetches what was found
                  damaged
"""
