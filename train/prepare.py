"""`python -m train.prepare DATASET [DESTINATION]`: the command of train/data/prepare.py."""

import sys

from .data.prepare import main

if __name__ == "__main__":
    sys.exit(main())
