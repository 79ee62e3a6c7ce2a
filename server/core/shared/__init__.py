"""What all nodes of a cluster keep, and change while others are away.

document.py   a document of entries with versions, and how two such documents merge
numberings.py the document of the numberings of databases
"""
