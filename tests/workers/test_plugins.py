"""Plugins of other packages are found again without looking, and a package that is installed meanwhile is seen."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from autoopt.workers.plugins import entry_points


def install(folder: Path, name: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[autoopt.tried]\n{name} = {name}:Plugin\n")


def test_packages_are_read_once_and_one_that_is_installed_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    asked = 0
    look = metadata.entry_points

    def counted(group: str) -> metadata.EntryPoints:
        nonlocal asked
        asked += 1
        return look(group=group)

    monkeypatch.setattr(metadata, "entry_points", counted)
    install(tmp_path, "one")
    assert {point.name for point in entry_points("autoopt.tried")} == {"one"}
    (tmp_path / "another file").touch()
    assert {point.name for point in entry_points("autoopt.tried")} == {"one"}
    assert asked == 1
    install(tmp_path, "two")
    assert {point.name for point in entry_points("autoopt.tried")} == {"one", "two"}
    assert asked == 2
