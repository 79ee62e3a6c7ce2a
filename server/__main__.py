"""`python -m server`: one node process."""

import sys

from server.shell.process import main

sys.exit(main())
