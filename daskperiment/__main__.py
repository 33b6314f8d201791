"""The command line as ``python -m daskperiment``."""

from daskperiment.cli import main

if __name__ == "__main__":
    main()
