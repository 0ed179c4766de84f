"""A bundle's expected outputs, from a node of the hardware on which its config was measured: another machine may not be able to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from autoopt.bundle import fresh, manifest
from autoopt.bundle.manifest import EXPECTED
from autoopt.errors import AutooptError
from autoopt.search import code
from autoopt.search.cluster import KIND
from autoopt.search.remote import Place, watch


def record_on_node(place: Place, bundle: Path) -> None:
    """What `autoopt.bundle.fresh.record` does, there.

    Raises:
        BundleError: the artifact does not run there, either.
        HardwareGoneError: there is no such node any more.
    """
    kind = manifest.read(bundle).deployment.kind
    files = {str(path.relative_to(bundle)): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    task = _record.options(name="record outputs", label_selector={KIND: kind}).remote(files, place.code)
    for name, content in watch(task, kind, lambda: None).items():
        (bundle / EXPECTED / name).write_bytes(content)


@ray.remote(num_cpus=0, max_retries=3)  # type: ignore[untyped-decorator]  # Ray's
def _record(files: Mapping[str, bytes], places: tuple[str, ...]) -> Any:
    """On the node; an error of ours is returned, as Ray would wrap it."""
    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        bundle = Path(folder)
        for name, content in files.items():
            (bundle / name).parent.mkdir(parents=True, exist_ok=True)
            (bundle / name).write_bytes(content)
        try:
            code.settle(places)
            fresh.record(bundle)
        except AutooptError as error:
            return error
        return {path.name: path.read_bytes() for path in (bundle / EXPECTED).glob("outputs_*.npy")}
