"""`python -m results.report`."""

import sys

from results.report.command import main

if __name__ == "__main__":
    sys.exit(main())
