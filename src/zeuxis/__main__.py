"""`python -m zeuxis`."""

from zeuxis.cli import main

if __name__ == "__main__":
    main()
