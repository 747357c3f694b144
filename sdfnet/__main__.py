"""`python -m sdfnet` is the program `sdfnet` (torchrun needs a module)."""

import sys

from sdfnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
