"""Base: what all other rooms build on: settings, clocks, errors, routes, and the state that a turn shares.

config.py         every limit and setting
clock.py          the hybrid logical clock, which makes the counters of dots
cluster_time.py   the median of all members' clocks, by which keys expire
clock_report.py   reports nodes whose clock is wrong
errors.py         error replies
sinks.py          where replies go: each exactly once, and in command order
lanes.py          which commands of a connection wait for which
longest.py        the longest of the times that were measured lately
pauses.py         whether this node has stood still, so that what it read before is outdated
quorum.py         the tally of a request
routing.py        for each partition: coordinator, replicas and stand-ins
hints.py          which owners lack which of the records stored here
room.py           what a disk has room for: writes, deletions only, or nothing
statistics.py     counters
quarantine.py     what has ended a node and is refused for a while; poison.py: how that is known again
unexpected.py     exceptions that no code expected: which are contained, and which end the node
state.py          all of the above, as the parts of one node share it within a turn
"""
