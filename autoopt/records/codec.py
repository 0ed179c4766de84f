"""Records to JSON and back, driven by their type hints.

Our own few lines and not a library, because `autoopt.load` must read a bundle where only numpy and one engine are installed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """A record as JSON values: dict, list, str, int, float, bool, None."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: to_json(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, str) or not isinstance(record, Sequence):
        return record
    return [to_json(item) for item in record]


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of `to_json`. Unknown keys are ignored, so that a newer writer can be read.

    Raises:
        ValueError: a field without a default is missing, or a value has another type.
    """
    return typing.cast("T", _decode(kind, data))


def _decode(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union) and type(None) in arguments:
        (kind,) = [argument for argument in arguments if argument is not type(None)]
        return None if data is None else _decode(kind, data)
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in data)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _decode(arguments[1], value) for key, value in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    return float(data) if kind is float and isinstance(data, int) else data


def _decode_record(kind: Any, data: Any) -> Any:
    if not isinstance(data, Mapping):
        message = f"expected an object for {kind.__name__}, got {type(data).__name__}"
        raise ValueError(message)  # noqa: TRY004 (a wrong file, not a wrong call)
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    try:
        return kind(**{name: _decode(hints[name], value) for name, value in data.items() if name in known})
    except TypeError as error:
        message = f"not a {kind.__name__}: {error}"
        raise ValueError(message) from error


def canonical_json(record: Any) -> str:
    """JSON with sorted keys and no spaces: equal records give equal text, in every process."""
    return json.dumps(to_json(record), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(record: Any) -> str:
    """The SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()
