"""`python -m server`: one node process."""

import sys

from server.build import use_compiled

use_compiled()

from protocol.native import native  # noqa: E402 (only now: the imports within follow what use_compiled has chosen)

use_huge_pages = native("use_huge_pages")
if use_huge_pages is not None:
    use_huge_pages()  # before the other imports: what is in memory by then stays where it is

from server.shell.process import main  # noqa: E402 (as above)

sys.exit(main())
