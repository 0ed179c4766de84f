"""Energy where the machine tells it; this one's counters are a folder of the test's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autoopt.workers.measure.energy import Meter, energy_of, meters


def domain(powercap: Path, name: str, label: str, energy_uj: int | None) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    if energy_uj is not None:
        (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


def test_packages_are_counted_and_not_their_parts(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 5)
    domain(tmp_path, "intel-rapl:0:0", "core", 3)
    domain(tmp_path, "intel-rapl:1", "package-1", 7)
    assert [meter.name for meter in meters("cpu", tmp_path)] == ["package-0", "package-1"]


def test_a_counter_that_may_not_be_read_tells_nothing(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", None)
    assert meters("cpu", tmp_path) == ()
    assert meters("cpu", tmp_path / "nowhere") == ()
    assert energy_of(cast("Any", None), (), 1e6) is None


def test_a_counter_that_began_again_is_read_right(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 999_000)
    (meter,) = meters("cpu", tmp_path)
    (folder / "energy_uj").write_text("4000\n")
    assert meter.since(999_000) == pytest.approx(5.0)  # mJ


def test_energy_is_that_of_a_sample_in_all_instances() -> None:
    spent = [0]

    class Server:
        serving = SimpleNamespace(artifact=SimpleNamespace(deployment=SimpleNamespace(batch=4)))
        instances = (None, None)

        def burst(self, warmup: int, timed: int) -> None:
            spent[0] += 3000 * timed * 4 * 2  # 3 mJ a sample

    found = energy_of(cast("Any", Server()), (Meter("package", lambda: spent[0]),), call_ns=1e6, seconds=0.01)
    assert found is not None
    assert found.value == pytest.approx(3.0)
