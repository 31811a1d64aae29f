"""`python -m sd2rt.cli`, the same as the `sd2rt` command."""

import sys

from sd2rt.cli.main import main

sys.exit(main())
