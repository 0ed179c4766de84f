"""Parameters of a step, checked against what the technique declares, with the defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoopt.errors import SpaceError

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Parameter, Technique


def checked_params(technique: Technique, params: Params) -> dict[str, bool | int | float | str]:
    """A value for each parameter: the given one, else the default. An int given for a float becomes one.

    Raises:
        SpaceError: a name that the technique does not declare, or a value that it does not allow; says what is allowed.
    """
    declared = {parameter.name: parameter for parameter in technique.parameters}
    for name in params:
        if name not in declared:
            allowed = ", ".join(declared) or "none"
            message = f"{technique.name} has no parameter {name!r}; it has: {allowed}"
            raise SpaceError(message)
    return {name: _checked(technique.name, parameter, params) for name, parameter in declared.items()}


def _checked(technique: str, parameter: Parameter, params: Params) -> bool | int | float | str:
    value = params.get(parameter.name, parameter.default)
    if not parameter.allows(value):
        message = (
            f"{technique}: {parameter.name} is {value!r}; allowed are {parameter.allowed()}. {parameter.about}".rstrip()
        )
        raise SpaceError(message)
    return float(value) if isinstance(parameter.default, float) and not isinstance(value, str) else value
