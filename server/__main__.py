"""`python -m server`: one node process."""

import sys

from server.build import use_compiled

use_compiled()

from server.shell.process import main  # noqa: E402 (only now: the imports within follow what use_compiled has chosen)

sys.exit(main())
