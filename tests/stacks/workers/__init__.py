"""What the workers of the job queues import, as an application would write it: each library's own program runs it.

The environment tells the address of the node (STACK_URL) and the file in which a job leaves its number (STACK_DONE).
"""
