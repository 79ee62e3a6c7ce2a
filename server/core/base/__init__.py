"""What all parts of a node stand on: its settings, clock and errors, whom a request asks, and what a turn shares.

config.py         every limit and tunable
clock.py          the hybrid clock, which counts dots
cluster_time.py   what keys expire by: the middle of all members' clocks; clock_report.py tells nodes whose clock is off
errors.py         error replies
sinks.py          answers, each exactly once and in command order
lanes.py          which commands of a connection wait for which
quorum.py         the tally of a request
routing.py        per partition, who coordinates, who is asked, who stands in
hints.py          which owners miss what is held here
statistics.py     counters
unexpected.py     what no code expected: what is contained, and what ends the node
state.py          all that, as the parts of one node share it within a turn
"""
