"""The simulator: whole clusters of real nodes on a seed, in virtual time, over the real codec (DESIGN §11).

Theory. `server.core.node.Node` takes time, chance and input as arguments and hands its output over, so a cluster is a
queue of events: no sockets, threads, sleeps. What the shell does around a node is done here by `host.py`, with a crash
between any two of its steps. Phase one hurts (faults.py), phase two heals; then the checkers judge, which know nothing
of the nodes: they read the clients' history and what has been on the disks.

    events.py      virtual time
    disk.py        a store that forgets what a crash, a power loss or a thief would make it forget
    staging.py     large values that are written in chunks first, as server/shell/staging.py does it
    network.py     connections like TCP's, and a datagram mode that loses, repeats and reorders whole frames
    links.py       how nodes connect to each other, as server/shell/links.py and connections.py do it
    host.py        a machine: disk, clocks, and the node process with its turns, crashes and freezes
    wall_clock.py  a machine's wall clock, which may be wrong
    world.py       a cluster of hosts; healing
    faults.py      the storm: what goes wrong, and when
    operators.py   the operator in it, who changes the ring meanwhile
    clients.py     virtual clients and the history they write
    workload.py    what clients ask for
    evidence.py    what has been on the disks, by dot
    rings.py       which layout was on which disk, and when
    intents.py     what an operation meant to write, had seen, and was told
    checkers.py    P1 to P5 and P11, judged from history and disks
    forgetting.py  P6 to P8: hints, and records that go
    convergence.py liveness, judged from the disks alone
    answers.py     P5: one answer a command, in order, in time; and what reads and contexts had to know
    runs.py        a seed -> a profile -> a run -> a verdict
    plants.py      bugs on purpose, repair_plants.py, ring_plants.py: each must be found by its checker (test_plants.py)
    expiry.py      each key lives as long as it was told to, whatever a minority of the clocks say
    soak.py        thousands of seeds on all cores (`make soak`)
    seeds.py       which seeds CI runs, and which only `make soak`
    probes.py      what directed tests look at (test_requests.py, test_many_keys.py)

`python -m tests.sim SEED` replays a seed.
"""
