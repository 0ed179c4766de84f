"""Third-party failures as one readable sentence.

Exporters, tracers and compilers meet arbitrary networks and raise arbitrary exceptions. For a search such a refusal is a value: the
candidate ends as "unsupported", with the reason. This is the one place where that is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from autoopt.errors import FailureKind, StageError

SENTENCE_LENGTH = 300


def unsupported(message: str) -> StageError:
    """The error of a network that a technique or engine cannot take."""
    return StageError(FailureKind.UNSUPPORTED, message)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a third party raises in the block into `StageError` (UNSUPPORTED): ``what``, then its reason.

    A `StageError` passes unchanged, and so does running out of memory, which is no refusal: that of a GPU, which every runtime tells
    by an exception of its own, becomes a MemoryError.
    """
    try:
        yield
    except (StageError, MemoryError):
        raise
    except Exception as error:  # the boundary to third-party code described above
        message = f"{what}: {sentence(error)}"
        if "out of memory" in str(error).lower():
            raise MemoryError(message) from error
        raise unsupported(message) from error


def sentence(error: BaseException) -> str:
    """The first line of the error's message that says something, at most 300 characters."""
    lines = (re.sub(r"\s+", " ", line).strip(" =*-#") for line in str(error).splitlines())
    telling = next((line for line in lines if len(line.split()) > 1), "") or str(error).strip()
    text = f"{type(error).__name__}: {telling}" if telling else type(error).__name__
    return text if len(text) <= SENTENCE_LENGTH else text[: SENTENCE_LENGTH - 1] + "…"
