"""Entry point of ``python -m distilkit``."""

import sys

from distilkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
