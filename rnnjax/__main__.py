"""``python -m rnnjax`` is the command ``rnnjax``."""

import sys

from rnnjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
