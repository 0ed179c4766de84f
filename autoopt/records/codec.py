"""Records to JSON and back, driven by their type hints.

Our own few lines and not a library, because `autoopt.load` must read a bundle where only numpy and one engine are installed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """A record as JSON values: dict, list, str, int, float, bool, None."""
    if isinstance(record, _PLAIN):
        return record.value if isinstance(record, Enum) else record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {name: to_json(getattr(record, name)) for name in _names(type(record))}
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if not isinstance(record, Sequence):
        return record
    return [to_json(item) for item in record]


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of `to_json`. Unknown keys are ignored, so that a newer writer can be read.

    Raises:
        ValueError: a field without a default is missing, or a value has another type.
    """
    decode = _decoder(typing.cast("Hashable", kind))
    return typing.cast("T", data if decode is None else decode(data))


_PLAIN: tuple[type, ...] = (str, int, float, type(None))
_Decode: TypeAlias = Callable[[Any], Any]


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@functools.cache
def _decoder(kind: Any) -> _Decode | None:
    """How to decode what is declared so; None where JSON values stay as they are.

    Found once for each type: a study of ten thousand candidates has a million fields.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union) and type(None) in arguments:
        (kind,) = [argument for argument in arguments if argument is not type(None)]
        return _where_there_is_one(_decoder(kind))
    if origin is tuple:
        return _as_tuple(_decoder(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _as_mapping(_decoder(arguments[1]))
    if dataclasses.is_dataclass(kind):
        return functools.partial(_decode_record, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return typing.cast("_Decode", kind)
    return _as_float if kind is float else None


def _as_float(data: Any) -> Any:
    return float(data) if isinstance(data, int) else data


def _where_there_is_one(decode: _Decode | None) -> _Decode | None:
    return None if decode is None else lambda data: None if data is None else decode(data)


def _as_tuple(decode: _Decode | None) -> _Decode:
    return tuple if decode is None else lambda data: tuple(map(decode, data))


def _as_mapping(decode: _Decode | None) -> _Decode:
    if decode is None:
        return lambda data: dict(data.items())
    return lambda data: {key: decode(value) for key, value in data.items()}


@functools.cache
def _fields(kind: Any) -> dict[str, _Decode | None]:
    hints = typing.get_type_hints(kind)
    return {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind) if field.init}


def _decode_record(kind: Any, data: Any) -> Any:
    if not isinstance(data, Mapping):
        message = f"expected an object for {kind.__name__}, got {type(data).__name__}"
        raise ValueError(message)  # noqa: TRY004 (a wrong file, not a wrong call)
    fields = _fields(kind)
    try:
        return kind(
            **{
                name: value if (decode := fields[name]) is None else decode(value)
                for name, value in data.items()
                if name in fields
            }
        )
    except TypeError as error:
        message = f"not a {kind.__name__}: {error}"
        raise ValueError(message) from error


def canonical_json(record: Any) -> str:
    """JSON with sorted keys and no spaces: equal records give equal text, in every process."""
    return json.dumps(to_json(record), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(record: Any) -> str:
    """The SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()
