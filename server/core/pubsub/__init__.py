"""Messages that no key stores: publish/subscribe (https://redis.io/docs/latest/develop/pubsub/).

    subscriptions.py   who has subscribed to what at this node, and what each of them gets at the end of the turn
    publishing.py      how a message reaches the subscribers of all nodes
    tracking.py        which keys clients cache, and how they are told that these have changed
    receiving.py       which part handles which message of other nodes
    expiries.py        when what they cache expires
    events.py          which keyspace events a command causes
    notifications.py   publishes them

A message is delivered at most once. It reaches the subscribers of all nodes that can be reached at that moment, and is
kept nowhere.
"""
