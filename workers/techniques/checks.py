"""Parameters of a step, checked against what the technique declares, with the defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoopt.workers.parameters import Value, checked

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Technique


def checked_params(technique: Technique, params: Params) -> dict[str, Value]:
    """A value for each parameter of the technique.

    Raises:
        SpaceError: a name that it does not declare, or a value that it does not allow; says what is allowed.
    """
    return checked(technique.name, technique.parameters, params)
