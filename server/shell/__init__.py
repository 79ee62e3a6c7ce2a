"""Thin asyncio around the core. No task, future or timer per request.

process.py       starts a node on its directory (directory.py, addresses.py, caches.py), and begins its next run
server.py        one run: puts the parts together, and stops them; node_run.py tells how it ended
context.py       what all parts need, and when a turn ends
turn.py          what happens at the end of a turn: durability.py commits, turn_sender.py sends
staging.py       writes large values in chunks before they are handled; staged_commands.py: those of a client's commands
clients.py       the connections of clients: client.py and connections.py, and what bounds them: admission.py, flow.py,
                 memory.py, draining.py, half_closed.py, files.py
listening.py     the ports; TLS: certificates.py, handshakes.py, tls_transport.py
peers.py         the connections to the other nodes: links.py with first_links.py and outbound.py,
                 inbound.py, introductions.py
ticks.py         the timer, and what is looked at once a second: disk.py, reports.py, facts.py
finding.py       asks at addresses who is there; joining.py asks a member to stage this node's join
crash.py         how the process ends by what no code expected
"""
