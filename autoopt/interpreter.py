"""Start a function of autoopt in another Python process, with the same interpreter and the same autoopt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import autoopt


def command(function: str, *arguments: str, python: str | None = None) -> list[str]:
    """The command line that calls ``module:function`` with the list of arguments, in this interpreter or in another one.

    ``-P``: whoever stands in a foreign folder (a bundle that was sent to him) must not import what lies there.
    """
    module, _, name = function.partition(":")
    program = f"import sys; from {module} import {name}; {name}(sys.argv[1:])"
    return [python or sys.executable, "-P", "-c", program, *arguments]


def environment() -> dict[str, str]:
    """This process's, in which autoopt is found even when it is not installed but run from a clone."""
    home = str(Path(autoopt.__file__).parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), home]))}
