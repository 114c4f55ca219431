"""`python -m zeuxis`, and the command `zeuxis`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line; a Ctrl-C while it is still being loaded leaves as quietly as one later."""
    try:
        from zeuxis.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
