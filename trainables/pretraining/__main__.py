"""python -m trainables.pretraining."""

import sys

from trainables.pretraining.command import main

if __name__ == "__main__":
    sys.exit(main())
