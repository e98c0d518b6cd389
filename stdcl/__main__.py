"""``python -m stdcl``: the ``stdcl`` command."""

from __future__ import annotations

import sys

from stdcl.cli import main

if __name__ == "__main__":
    sys.exit(main())
