"""Publish/subscribe: the commands of https://redis.io/docs/latest/commands/?group=pubsub.

commands.py   SUBSCRIBE and its kin, PUBLISH, SPUBLISH
asking.py     PUBSUB: what the subscribers of all nodes have subscribed to
guard.py      what a session may say while it has subscriptions
"""
