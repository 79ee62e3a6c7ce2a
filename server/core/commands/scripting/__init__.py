"""Scripts: EVAL and its kin.

job.py             a script with its keys and arguments, and how it travels to the coordinator of its keys
permitted.py       which commands a script may run
run.py             one run of a job within a turn, on a snapshot or command by command
long_run.py        one that takes longer, in a worker
steps.py           where a job runs
texts.py           finds the text of a script, here or on other nodes
eval_commands.py   EVAL, EVALSHA, EVAL_RO, EVALSHA_RO
fcall_commands.py  FCALL, FCALL_RO
script_command.py  SCRIPT
kill.py            SCRIPT KILL, FUNCTION KILL
function_command.py  FUNCTION
"""
