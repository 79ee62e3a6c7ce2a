"""Scripts: EVAL and its kin.

job.py             a script with its keys and arguments, and how it travels to the coordinator of its keys
permitted.py       which commands a script may run
run.py             one run of a job, on a snapshot or command by command
steps.py           where a job runs
texts.py           finds the text of a script, here or on other nodes
eval_commands.py   EVAL, EVALSHA, EVAL_RO, EVALSHA_RO
fcall_commands.py  FCALL, FCALL_RO
script_command.py  SCRIPT
function_command.py  FUNCTION
"""
