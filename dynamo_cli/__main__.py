"""`python -m dynamo_cli`: the same as `dyn`."""

from dynamo_cli.app import main

main()
