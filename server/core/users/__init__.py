"""Users: what a user is, the rules that describe one, and the document of all users of a cluster.

    rules.py      a user's rules, as ACL SETUSER takes them and ACL LIST shows them
    document.py   all users of a cluster, each with a version; how two such documents merge

What the rules allow is computed in commands/permissions.py, which knows the commands. Who is logged in where is in
services/users.py.
"""
