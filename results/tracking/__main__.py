"""`python -m results.tracking`."""

import sys

from results.tracking.command import main

if __name__ == "__main__":
    sys.exit(main())
