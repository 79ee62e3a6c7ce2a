"""The `dyn` command: runs a cluster on this machine, shows and changes a cluster, reads and writes data for shell scripts.

Read in this order: `app` (the entry point), `commands` (the Typer app), `failures` (errors and exit statuses), `target`
and `client` (one connection to one node). Then the commands:

- `data_commands`: get, set, del
- `layout_commands`: cluster init, cluster status, ring show, ring locate. `layout` makes the first layout. `plain` shows
  documents in a pipe, `pictures` on a terminal.
- `membership_commands`, `plan_commands`: staged changes of members, their plan (`plan_text`), and its commit
- `hints_commands`, `repair_commands`, `task_commands`: hints, repairs and tasks. `following` polls work inside the cluster,
  `progress` shows it, `shapes` checks the documents of nodes.
- `local_commands`: up, down, node start. `cluster_file` is what a directory stores of its cluster, `local_cluster` starts
  and stops the nodes, `startup` waits until they are ready, `processes` handles processes and pid files, `stop_signals`
  handles signals.

`options` declares all options and arguments, `output` writes to stdout and stderr, `addresses` parses HOST:PORT. `python
-m dynamo_cli.pages` writes `man/` and `completions/` from the app (`examples`, `roff`). The package reaches a cluster
only through its wire: it never imports `server`.
"""
