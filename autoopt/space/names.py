"""Words for names that do not exist: what was given, what is allowed, what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, given: object, allowed: Iterable[object]) -> str:
    """``there is no engine "onnxruntme"; did you mean onnxruntime? Allowed: …``."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.6)
    meant = f'; did you mean "{close[0]}"?' if close else "."
    return f'there is no {kind} "{given}"{meant} Allowed: {", ".join(names) or "none"}.'
