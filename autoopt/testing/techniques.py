"""The conformance suite for techniques: what a search relies on, checked on small networks of many kinds.

For each of `NETWORKS` call `check_technique`; then once `check_reload` on all that it returned. With pytest::

    @pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
    def test_my_technique_conforms(network, tmp_path):
        result = check_technique(MyTechnique(), {"ratio": 0.5}, network, tmp_path, smaller=True)
        if result is not None:
            check_reload([result])
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoopt.errors import FailureKind, StageError
from autoopt.records import Params, from_json, to_json
from autoopt.records.codec import canonical_json
from autoopt.testing.networks import NETWORKS, SampleNetwork
from autoopt.testing.runners import run_model
from autoopt.testing.tasks import Arrays, memory_context, random_arrays
from autoopt.workers import formats
from autoopt.workers.engines.base import Source
from autoopt.workers.techniques.base import Context, Technique

__all__ = ["NETWORKS", "Applied", "check_reload", "check_technique"]

SAMPLES = 64
BATCH = 2
RELOAD_S = 120


@dataclass(frozen=True)
class Applied:
    """A compressed network on disk, with inputs and what it answered to them (``inputs_<i>.npy``, ``outputs.npy``)."""

    source: Source
    facts: dict[str, bool | int | float | str]


def check_technique(
    technique: Technique,
    params: Params,
    network: SampleNetwork,
    folder: Path,
    *,
    format: str | None = None,  # noqa: A002 (the glossary's word)
    smaller: bool = False,
    **context: Any,
) -> Applied | None:
    """Apply the technique twice and check what the search relies on.

    The outputs keep their shapes and are finite; the same seed gives the same network; the original on disk and the data
    stay as they were; the facts are JSON; with ``smaller`` there are fewer weights than before.

    Args:
        technique: what is checked.
        params: its parameters.
        network: one of `NETWORKS`, or another.
        folder: an empty folder for files.
        format: one of the technique's formats; default its preferred one.
        smaller: whether the technique promises fewer weights.
        context: passed to `autoopt.testing.tasks.memory_context` (``student=``).

    Returns:
        The compressed network, or None where the technique raised StageError (UNSUPPORTED).

    Raises:
        AssertionError: a promise is broken; the message says which.
        Exception: whatever else the technique raised.
    """
    chosen = format or technique.formats[0]
    data = {split: random_arrays(network.signature, SAMPLES, seed) for seed, split in enumerate(_SPLITS)}
    setting = memory_context(network.module(), network.signature, data, folder / "original", **context)
    source = _as_format(_original(setting), chosen, folder)
    before = _fingerprint(source.path, data)
    try:
        model, facts = technique.apply(formats.load(source), params, setting)
    except StageError as error:
        _check_refusal(technique, error)
        return None
    again, _ = technique.apply(formats.load(source), params, setting)
    inputs = tuple(array[:BATCH] for array in data["validation"].inputs)
    found = run_model(model, chosen, inputs, network.signature)
    _check_outputs(technique, found, run_model(formats.load(source), chosen, inputs, network.signature))
    _check_same(technique, found, run_model(again, chosen, inputs, network.signature))
    assert before == _fingerprint(source.path, data), f"{technique.name} changed the original network or the data"
    canonical_json(dict(facts))
    if smaller:
        _check_smaller(technique, model, setting)
    return _saved(model, chosen, inputs, found, network, folder, facts)


def check_reload(results: Sequence[Applied]) -> None:
    """Every result, loaded in one fresh process, gives the outputs that it gave in this one.

    Raises:
        AssertionError: one does not; the message is what that process said.
    """
    request = canonical_json(
        [{"format": r.source.format, "path": str(r.source.path), "signature": r.source.signature} for r in results]
    )
    code = "import sys; from autoopt.testing.techniques import _reload; _reload(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, request], capture_output=True, text=True, timeout=RELOAD_S, check=False
    )
    assert done.returncode == 0, done.stderr


_SPLITS = ("train", "calibration", "validation")


def _original(context: Context) -> Source:
    source = context.task.source
    return Source(source.format, source.path, source.signature)


def _as_format(source: Source, chosen: str, folder: Path) -> Source:
    if chosen == source.format:
        return source
    return formats.convert(source, chosen, BATCH, folder / chosen)


def _fingerprint(folder: Path, data: dict[str, Arrays]) -> str:
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content.update(path.read_bytes() if path.is_file() else b"")
    for arrays in data.values():
        for array in (*arrays.inputs, arrays.targets):
            content.update(array.tobytes())
    return content.hexdigest()


def _check_refusal(technique: Technique, refusal: StageError) -> None:
    assert refusal.kind is FailureKind.UNSUPPORTED, f"{technique.name} refused with {refusal.kind}: {refusal.message}"
    assert refusal.message, f"{technique.name} refused without a reason"


def _check_outputs(technique: Technique, found: Sequence[Any], original: Sequence[Any]) -> None:
    shapes, expected = [output.shape for output in found], [output.shape for output in original]
    assert shapes == expected, f"{technique.name} changed the outputs' shapes from {expected} to {shapes}"
    finite = all(np.isfinite(output).all() for output in found)
    assert finite, f"{technique.name} gave a network with outputs that are not finite"


def _check_same(technique: Technique, one: Sequence[Any], other: Sequence[Any]) -> None:
    same = all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert same, f"{technique.name} gave another network for the same seed"


def _check_smaller(technique: Technique, model: torch.nn.Module, context: Context) -> None:
    original = formats.load(_original(context))
    before, after = (sum(weights.numel() for weights in network.parameters()) for network in (original, model))
    assert after < before, f"{technique.name} left {after} weights of {before}"


def _saved(
    model: Any,
    chosen: str,
    inputs: Sequence[Any],
    found: Sequence[Any],
    network: SampleNetwork,
    folder: Path,
    facts: Any,
) -> Applied:
    source = formats.save(model, chosen, folder / "result", network.signature)
    for index, array in enumerate(inputs):
        np.save(source.path / f"inputs_{index}.npy", array)
    np.save(source.path / "outputs.npy", found[0])
    return Applied(source, dict(facts))


def _reload(request: str) -> None:
    """What the fresh process does."""
    import json

    from autoopt.records import Signature

    torch.set_num_threads(1)
    for item in json.loads(request):
        source = Source(item["format"], Path(item["path"]), from_json(Signature, item["signature"]))
        inputs = tuple(np.load(source.path / f"inputs_{index}.npy") for index in range(len(source.signature.tensors)))
        found = run_model(formats.load(source), source.format, inputs, source.signature)[0]
        np.testing.assert_allclose(
            found, np.load(source.path / "outputs.npy"), rtol=1e-4, atol=1e-5, err_msg=str(to_json(item))
        )
