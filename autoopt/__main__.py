"""``python -m autoopt`` is the command ``autoopt``."""

from autoopt.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
