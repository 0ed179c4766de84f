"""Whether a bundle is still what was promised, on the machine at hand, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from autoopt.bundle import checksums, fresh, manifest
from autoopt.bundle.fresh import Examination
from autoopt.bundle.manifest import Manifest
from autoopt.bundle.own import is_own
from autoopt.records import Environment, Estimate
from autoopt.records import environment as environments

# Identical artifacts, timed like this on a shared machine, differ by up to a quarter: less is not called slower.
SLOWER_BY = 1.25


@dataclass(frozen=True)
class Verdict:
    """What `verify` has found."""

    ok: bool
    """Whether the bundle gives what was recorded and, where the machine is alike, is as fast as promised."""
    summary: str
    """"still what was promised", "outputs differ: …", "slower than promised: …", "another machine: …", …"""
    sentences: tuple[str, ...]
    """All findings."""
    bundle: str
    candidate: str
    examination: Examination
    latency_ms: Estimate
    """Milliseconds a sample, here and now."""
    promised_ms: Estimate
    """The same where it was measured."""
    unlike: tuple[str, ...]
    """How this machine differs from that one, in words; empty where latencies may be compared."""
    environment: Environment

    @property
    def exit_code(self) -> int:
        """0 where all is well, else 1."""
        return 0 if self.ok else 1

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {sentence}" for sentence in self.sentences)])


def verify(path: str | Path, *, trust: bool = False, limit_s: float = fresh.LIMIT_S) -> Verdict:
    """Open a bundle in a fresh process, compare its outputs with the recorded ones, and time it.

    Args:
        path: the bundle's folder.
        trust: see `autoopt.load`.
        limit_s: how long its process may take.

    Raises:
        BundleError: it is no bundle, is damaged, needs trust or an engine that is not usable here, crashed or hung.
    """
    folder = Path(path)
    files = checksums.check(folder)
    promise = manifest.read(folder)
    found = fresh.examine(folder, trust=trust or is_own(folder), limit_s=limit_s)
    here = environments.current()
    unlike = _unlike(here, promise)
    batch = promise.deployment.batch
    latency = _scaled(found.timing.median_ms, 1 / batch)
    promised = _promised(promise)
    differs = _how_it_runs(promise, found)
    slower = not unlike and not found.timing.disturbed and latency.low > SLOWER_BY * promised.high
    return Verdict(
        ok=found.comparison.same and not differs and not slower,
        summary=_summary(promise, found, differs, slower=slower, ratio=latency.value / promised.value, unlike=unlike),
        sentences=(
            f"{files} files, all as they were exported.",
            f"Outputs: {found.comparison.words()}.",
            f"Runs in {promise.deployment.engine} {found.effective.engine_version}, {_served(found)}.",
            _latency_sentence(latency, found, promised, unlike),
        ),
        bundle=str(path),
        candidate=promise.candidate.describe(),
        examination=found,
        latency_ms=latency,
        promised_ms=promised,
        unlike=unlike,
        environment=here,
    )


def _promised(promise: Manifest) -> Estimate:
    """Milliseconds a sample, of one call: where several were at work at once, or requests came in between, that is what a call took."""
    found, deployment = promise.promised, promise.deployment
    if found.served is None and deployment.instances == 1 and deployment.options.get("streams", 1) == 1:
        return found.latency_ms
    call_ms = found.latency.median_ms / deployment.batch
    return _scaled(found.latency_ms, call_ms / found.latency_ms.value)


def _unlike(here: Environment, promise: Manifest) -> tuple[str, ...]:
    """What differs, of that which this bundle's latency can depend on: not Ray's version, nor a GPU that does nothing."""
    there = promise.promised.environment
    matter = {name: version for name, version in there.packages.items() if name in promise.packages}
    gpu = there.gpu if promise.deployment.on_node.hardware == "cuda" else here.gpu
    return here.unlike(replace(there, packages=matter, gpu=gpu))


def _how_it_runs(promise: Manifest, found: Examination) -> str:
    """What the engine does otherwise than where it was measured: a silent fallback; empty where nothing."""
    then, now = promise.promised.effective, found.effective
    pairs = (("precision", then.precision, now.precision), ("hardware", then.hardware, now.hardware))
    changed = [f"{name} {new} here, {old} promised" for name, old, new in pairs if old != new]
    if now.threads != promise.deployment.threads:
        changed.append(f"{now.threads} threads here, {promise.deployment.threads} promised")
    return "; ".join(changed)


def _summary(
    promise: Manifest, found: Examination, differs: str, *, slower: bool, ratio: float, unlike: tuple[str, ...]
) -> str:
    if not found.comparison.same:
        return f"outputs differ: {found.comparison.words()}"
    if differs:
        return f"runs otherwise than promised: {differs}"
    if slower:
        return f"slower than promised: {ratio:.3g} times the promised latency"
    if unlike:
        other = (
            "machine"
            if any(what.startswith(("processor", "instructions", "GPU:")) for what in unlike)
            else "environment"
        )
        return f"another {other}: the outputs are those promised, the latency cannot be compared ({'; '.join(unlike)})"
    if found.timing.disturbed:
        return "outputs still what was promised; the machine is too busy to say anything of the latency"
    faster = promise.promised.speedup.value
    return f"still what was promised ({faster:.3g}× as fast as {promise.reference} where it was measured)"


def _served(found: Examination) -> str:
    now = found.effective
    return f"{now.precision} on {now.hardware}, {now.threads} thread{'' if now.threads == 1 else 's'}"


def _latency_sentence(here: Estimate, found: Examination, promised: Estimate, unlike: tuple[str, ...]) -> str:
    timing = found.timing
    left_out = f", {timing.discarded} disturbed bursts left out" if timing.discarded else ""
    text = (
        f"Latency: {_ms(here)} a sample (median of {timing.calls} calls{left_out}; 90 % of calls within "
        f"{timing.p90_ms:.3g} ms); where it was measured {_ms(promised)}"
    )
    return f"{text}, on another machine: {'; '.join(unlike)}." if unlike else f"{text}."


def _ms(figure: Estimate) -> str:
    return f"{figure.value:.3g} ms (95 % CI {figure.low:.3g}–{figure.high:.3g})"


def _scaled(figure: Estimate, factor: float) -> Estimate:
    return Estimate(figure.value * factor, figure.low * factor, figure.high * factor)
