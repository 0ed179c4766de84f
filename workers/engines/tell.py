"""``python -m autoopt.workers.engines.tell NAME``: what an engine offers in this environment, as JSON on the last line."""

from __future__ import annotations

import json
import sys

from autoopt.records import to_json
from autoopt.workers.engines import engine


def main() -> None:
    """Print the offer."""
    print(json.dumps(to_json(engine(sys.argv[1]).offer())))


if __name__ == "__main__":
    main()
