"""Parameters that techniques and engines declare, and values checked against them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from autoopt.errors import SpaceError
from autoopt.records.hardware import parse

if TYPE_CHECKING:
    from autoopt.records import Params

Value: TypeAlias = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One parameter, with the values that it allows."""

    name: str
    default: Value
    choices: tuple[Value, ...] = ()
    """The allowed values; empty where ``low`` and ``high`` bound a number."""
    low: float | None = None
    high: float | None = None
    about: str = ""
    """One sentence, with the unit."""
    devices: tuple[str, ...] = ()
    """Of an engine's option: the devices that it is for; () is every one."""

    def applies_to(self, hardware: str) -> bool:
        """Whether an engine's option means something there."""
        return not self.devices or parse(hardware)[1] in self.devices

    def allows(self, value: object) -> bool:
        """Whether the value has the default's type and lies in what is allowed."""
        if isinstance(value, bool) is not isinstance(self.default, bool):
            return False
        if self.choices:
            return value in self.choices
        if not isinstance(value, int | float):
            return isinstance(value, str) and isinstance(self.default, str)
        if isinstance(self.default, int) and not isinstance(value, int):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low} to {self.high}"


def checked(owner: str, declared: Iterable[Parameter], given: Params, kind: str = "parameter") -> dict[str, Value]:
    """A value for each parameter: the given one, else the default. An int given for a float becomes one.

    Args:
        owner: whose parameters they are, for the message.
        declared: what there is.
        given: values by name.
        kind: what the owner calls them.

    Raises:
        SpaceError: a name that is not declared, or a value that is not allowed; says what is.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            message = f"{owner} has no {kind} {name!r}; it has: {', '.join(known) or 'none'}"
            raise SpaceError(message)
    return {name: _checked(owner, parameter, given) for name, parameter in known.items()}


def _checked(owner: str, parameter: Parameter, given: Params) -> Value:
    value = given.get(parameter.name, parameter.default)
    if not parameter.allows(value):
        message = (
            f"{owner}: {parameter.name} is {value!r}; allowed are {parameter.allowed()}. {parameter.about}".rstrip()
        )
        raise SpaceError(message)
    return float(value) if isinstance(parameter.default, float) and not isinstance(value, str) else value
