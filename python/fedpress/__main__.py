"""``python -m fedpress``: the command ``fedpress``."""

from __future__ import annotations

import sys

from fedpress import _fedpress


def main() -> int:
    """Run the command with the arguments of this process; return its exit code."""
    return _fedpress.main(["fedpress", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
