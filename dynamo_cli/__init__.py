"""The `dyn` command: a cluster on this machine, the cluster as its operator sees it, data for shell scripts.

Read in this order: `app` (entry point, no tracebacks), `commands` (the Typer app), `failures` (exit statuses), `target`
and `client` (one connection to one node), then the commands:

- `data_commands`: get, set, del
- `layout_commands`: cluster init, cluster status, ring show, ring locate; `layout` makes the first layout, `plain` and
  `pictures` show documents in a pipe and on a terminal
- `hints_commands`, `repair_commands`, `task_commands`: the repairs; `following` looks at work that goes on in the
  cluster, `progress` shows it, `shapes` checks documents
- `local_commands`: up, down, node start; `cluster_file` (what a directory remembers), `local_cluster` (up and down),
  `startup` (until it is ready), `processes` (pid files that never lie), `stop_signals`

`python -m dynamo_cli.pages` writes `man/` and `completions/` from the app. A cluster is only ever reached through its
wire: the package never imports `server`.
"""
