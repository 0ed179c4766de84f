"""Tools that talk a lot: progress bars, advice, deprecations, tracer hints. A stage's log is for what went wrong."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(logger_name: str) -> Iterator[None]:
    """Within the context: only errors from that logger, no warnings, nothing on stdout."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Within the context: no warnings, and nothing on Python's stdout and stderr; of what is logged, errors alone.

    For libraries that use the root logger and progress bars. What native code prints is not held back.
    """
    root = logging.getLogger()
    # `logging.warning` gives a root logger without handlers one that writes to the stderr of that moment for ever.
    nothing = logging.NullHandler()
    root.addHandler(nothing)
    try:
        with quiet("root"), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        root.removeHandler(nothing)
