"""A task on the digits data with a linear network, and engines from outside that serve it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoopt.records import Deployment, to_json
from autoopt.task import PreparedTask, Task, load_task, prepare
from autoopt.workers import process
from autoopt.workers.engines import engines
from autoopt.workers.measure import MeasureRequest, ServedArtifact, TimingSettings
from autoopt.workers.process import Limits, Preload, call
from autoopt.workers.store.local import LocalStore

ENGINES = (
    "Good",
    "Streams",
    "Later",
    "Quitter",
    "Eater",
    "Talker",
    "Segfault",
    "Hang",
    "Raise",
    "Nan",
    "Greedy",
    "Fallback",
)
QUICK = TimingSettings(target_half_width=0.05, max_s=0.4, min_rounds=5, burst_ms=2)


@pytest.fixture(scope="package", autouse=True)
def _outside_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed package, as far as importlib can tell, whose entry points are the planted engines."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "planted_engines.py").write_text((Path(__file__).parent / "planted_engines.py").read_text())
    info = folder / "planted_engines-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-engines\nVersion: 1\n")
    points = "\n".join(f"planted_{name.lower()} = planted_engines:{name}" for name in ENGINES)
    (info / "entry_points.txt").write_text(f"[autoopt.engines]\n{points}\n")
    # For the tests' own helper modules, too.
    sys.path[:0] = [str(folder), str(Path(__file__).parent)]
    engines.cache_clear()  # another test may have looked already
    yield
    process.shutdown()
    del sys.path[:2]
    engines.cache_clear()


@dataclass(frozen=True)
class Digits:
    """The prepared task, and folders of artifacts of it."""

    task: PreparedTask
    folder: Path
    weights: np.ndarray
    """(64, 10): of the linear network."""

    def planted(self, weights: np.ndarray | None = None, name: str = "good") -> Path:
        """An artifact for the planted engines."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        np.save(folder / "weights.npy", self.weights if weights is None else weights)
        return folder

    def request(self, artifact: ServedArtifact, **changes: Any) -> dict[str, Any]:
        """Measure that artifact against the well-behaved one."""
        reference = ServedArtifact("planted_good", str(self.planted()), Deployment("planted_good"))
        request = MeasureRequest(
            candidate_id="candidate",
            artifact=artifact,
            reference=reference,
            task=str(self.task.folder),
            split=None,
            scenario="single_stream",
            reference_latency_ms=2.0,
            settings=QUICK,
        )
        return {**to_json(request), **to_json(changes)}


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    import torch
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    fitted = RidgeClassifier(fit_intercept=False).fit(images[:1000].reshape(1000, -1), labels[:1000])
    weights = np.ascontiguousarray(fitted.coef_.T, dtype=np.float32)
    linear = torch.nn.Linear(64, 10, bias=False)
    linear.weight.data = torch.from_numpy(weights.T.copy())
    folder = tmp_path_factory.mktemp("digits")
    given = Task(
        network=torch.nn.Sequential(torch.nn.Flatten(), linear),
        validation=(images[1000:1400], labels[1000:1400]),
        test=(images[1400:], labels[1400:]),
        name="digits",
    )
    return Digits(prepare(load_task(given), LocalStore(folder / "store")), folder, weights)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Any]:
    """Measure in a process of its own."""

    def run(request: dict[str, Any], timeout_s: float = 60.0, memory_bytes: int | None = None) -> Any:
        limits = Limits(timeout_s=timeout_s, memory_bytes=memory_bytes)
        return call(
            "autoopt.workers.measure.run:measure",
            request,
            limits,
            Preload(("numpy", "torch", "onnxruntime")),
            tmp_path / "measure.log",
        )

    return run
