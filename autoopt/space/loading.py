"""From a name or a path to a checked file: read, override, validate, and say every mistake at once."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from autoopt.errors import SpaceError
from autoopt.space.names import unknown
from autoopt.space.schema import (
    DeploymentSection,
    LimitsSection,
    SpaceFile,
    plain,
)

SHIPPED = Path(__file__).resolve().parent.parent / "search_spaces"
_SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): SpaceFile,
    ("deployment",): DeploymentSection,
    ("limits",): LimitsSection,
}
_OURS = {"name", "text"}
"""Fields that are not written in the file."""


def shipped_spaces() -> dict[str, Path]:
    """The spaces that come with autoopt: name to file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_space(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> SpaceFile:
    """Read and check a search space.

    Args:
        name_or_path: the name of a shipped space ("quick") or a YAML file.
        overrides: what to change, nested or with dotted keys: ``{"deployment.threads": [1, 2]}``. A None removes.

    Raises:
        SpaceError: there is no such space, or it is not valid; the message lists every mistake.
    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"The search space {path} cannot be read: {error}."
        raise SpaceError(message) from error
    return parse_space(text, path.stem, overrides)


def parse_space(text: str, name: str = "space", overrides: Mapping[str, Any] | None = None) -> SpaceFile:
    """The same from YAML text.

    Raises:
        SpaceError: it is not valid; the message lists every mistake.
    """
    data = _read(text, name)
    if overrides:
        data = copy.deepcopy(data)
        _override(data, overrides)
        text = yaml.safe_dump(data, sort_keys=False)
    strays = list(_strays(data))
    try:
        space = SpaceFile.model_validate({**data, "name": name, "text": text})
    except ValidationError as error:
        mistakes = [plain(entry) for entry in error.errors() if entry["type"] != "extra_forbidden"]
        raise SpaceError(_listing(name, strays + mistakes)) from error
    if strays:
        raise SpaceError(_listing(name, strays))
    return space


def _listing(name: str, mistakes: list[str]) -> str:
    lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
    return f'The search space "{name}" is not valid:\n{lines}\nSee `autoopt spaces` for the shipped ones as examples.'


def _find(name_or_path: str | Path) -> Path:
    shipped = shipped_spaces()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"}:
        message = f"There is no file {path}. Give a YAML file, or one of the shipped spaces: {', '.join(shipped)}."
        raise SpaceError(message)
    raise SpaceError(
        unknown("search space", name_or_path, shipped)[:1].upper() + unknown("search space", name_or_path, shipped)[1:]
    )


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice (it would silently take the last)."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {str(key) for key in keys if keys.count(key) > 1}
    if twice:
        problem = f"the key {', '.join(sorted(twice))} is given twice"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read(text: str, name: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        message = f'The search space "{name}" is not YAML: {error}'
        raise SpaceError(message) from error
    if not isinstance(data, dict):
        message = (
            f'The search space "{name}" must be a mapping with "model" and "deployment", not {type(data).__name__}.'
        )
        raise SpaceError(message)
    return data


def _override(data: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        *path, last = key.split(".")
        place = data
        for part in path:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        if value is None:
            place.pop(last, None)
        elif isinstance(value, Mapping) and isinstance(place.get(last), dict):
            _override(place[last], value)
        else:
            place[last] = value


def _strays(data: Mapping[str, Any]) -> Iterator[str]:
    """Keys that no section has, with what may have been meant."""
    for path, model in _SECTIONS.items():
        allowed = [name for name in model.model_fields if name not in _OURS]
        for where, section in _sections(data, path):
            for key in section:
                if key not in allowed:
                    yield f"{'.'.join((*where, str(key)))}: {unknown('key', key, allowed)}"


def _sections(
    data: Any, path: tuple[str, ...], where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if not isinstance(data, Mapping):
        return
    if not path:
        yield where, data
        return
    names = list(data) if path[0] == "*" else [path[0]]
    for name in names:
        yield from _sections(data.get(name), path[1:], (*where, str(name)))
