"""``python -m distilkit VERB`` is the command ``distilkit VERB``."""

import sys

from distilkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
