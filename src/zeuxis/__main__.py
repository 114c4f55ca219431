"""`python -m zeuxis`, and the command `zeuxis`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line; a Ctrl-C while it is still being loaded, or between two of its parts, leaves as quietly as one
    later."""
    try:
        from zeuxis.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
