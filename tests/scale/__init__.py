"""What the product costs and how late it is, by size: the programs behind `make scale` and `make tails`.

Nothing here asserts. Each program prints its progress to stderr and its tables to stdout; `--markdown FILE` puts the tables
into their places in docs/performance.md.

    delays.py       a process before a node that holds back what others send to it
    figures.py      percentiles, tables, and their places in a Markdown file
    requests.py     what a load asks for: which keys, which commands, by which node
    generator.py    processes that send a load: at a fixed rate (open loop), or as fast as they are answered (closed loop)
    clusters.py     compiled clusters, filled with keys; what they cost meanwhile

    tails.py        `make tails`: the latency while all is well, and while an owner is slow, frozen or dead
    lags.py         how late a node's loop was, and why
    jobs.py         the background jobs of `make tails`, each alone

    __main__.py     `make scale`, by parts: --only start,values
    sizes.py        parts `keys` and `start`: by the number of keys
    shapes.py       parts `values`, `connections`, `mixes` and `nodes`
    repairs.py      part `repairs`: repair, refill, transfer, scrub, hints
"""
