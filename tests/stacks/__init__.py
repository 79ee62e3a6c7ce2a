"""Applications and libraries that know Redis only, unchanged, with their default settings.

`make stacks` installs them and runs all. Those that need nothing but redis-py run in `make test`, too. Client libraries
are in clients/: `make stacks-clients` installs and runs those.
"""
