"""Commands: spec.py says what one is, table.py lists all, registry.py finds one by its name, execution.py runs one
(hot_call.py the hottest), arguments.py reads their arguments.

strings.py, keys.py, keyspace.py, connection.py, introspection.py and cluster.py speak Redis; dynamo.py has contexts and
siblings; operator.py, membership_command.py with newcomers.py, hints_command.py and repair_command.py have what the `dyn`
command asks for. They share steps.py (reads and writes as steps of a command), slices.py (work that is too much for one
turn), pages.py (the key space, page by page) and glob.py (patterns).
"""
