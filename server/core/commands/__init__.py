"""Commands: spec.py says what one is, table.py lists all, arguments.py reads their arguments.

strings.py, keys.py, keyspace.py, connection.py, introspection.py and cluster.py speak Redis; dynamo.py has contexts and
siblings; operator.py, hints_command.py and repair_command.py have what the `dyn` command asks for.
"""
