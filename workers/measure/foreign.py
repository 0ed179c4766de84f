"""``python -m autoopt.workers.measure.foreign PIPE PARENT``: serve an artifact with the interpreter of an engine's own environment."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from autoopt.workers.measure.server import serve


def main() -> None:
    """What is to be served comes first on the pipe, whose descriptor was inherited; then commands."""
    pipe, parent = Connection(int(sys.argv[1])), int(sys.argv[2])
    serve(pipe.recv(), pipe, parent)


if __name__ == "__main__":
    main()
