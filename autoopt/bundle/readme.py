"""What a bundle says about itself to people who find it without its maker."""

from __future__ import annotations

from autoopt.bundle.manifest import ARTIFACT, EXPECTED, MANIFEST, SUMS, Manifest
from autoopt.records import Measurement, Signature


def render(manifest: Manifest) -> str:
    """The bundle's ``README.md``."""
    served = manifest.deployment
    needed = " ".join(["autoopt", *(f"'{name}=={version}'" for name, version in _runtime(manifest))])
    trust = ", trust=True" if manifest.imports else ""
    flag = " --trust" if manifest.imports else ""
    return f"""# {manifest.candidate.describe()}

A trained network with the way it is served, made by autoopt {manifest.autoopt} on {manifest.created_at}{_made_from(manifest)}.

## Use it

    pip install {needed}

    import autoopt
    model = autoopt.load("path/of/this/folder"{trust})
    outputs = model(inputs)        # {_structure(manifest.signature)}

{_code(manifest)}Any number of samples goes; they are served {served.batch} at a time, on {served.threads} thread{_plural(served.threads)} (`threads=` changes that).

`autoopt verify path/of/this/folder{flag}` says whether it is whole, whether it still gives the outputs that were recorded, and
whether it is as fast on your machine as it was where it was measured.

## What was measured

{_table(manifest)}

Intervals are 95 %. The speed-up is against {manifest.reference}, timed in turn with it on the same cores of
{manifest.promised.environment.cpu}; {manifest.promised.scenario.replace("_", " ")}, {_split(manifest)}.

## What is here

| name | what it is |
|---|---|
| `{ARTIFACT}/` | what {served.engine} loads |
| `{MANIFEST}` | how it was made, what it takes, all that was measured |
| `{EXPECTED}/` | samples, and the outputs that they gave where it was exported |
| `{SUMS}` | `sha256sum -c {SUMS}` tells whether it is whole |
"""


def _code(manifest: Manifest) -> str:
    """What `trust` is about."""
    if not manifest.imports:
        return ""
    return (
        f"An artifact of {manifest.deployment.engine} is code, which runs when it is loaded: hence `trust=True`, wherever this "
        "was not exported by the same user on the same machine.\n\n"
    )


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _runtime(manifest: Manifest) -> list[tuple[str, str]]:
    # "2.13.0+cpu" is a build that the usual index does not have under that name.
    return [(name, version.partition("+")[0]) for name, version in manifest.packages.items()]


def _made_from(manifest: Manifest) -> str:
    job, task = manifest.facts.get("job"), manifest.facts.get("task")
    return (f", for the task {task}" if task else "") + (f", in the job {job}" if job else "")


def _structure(signature: Signature) -> str:
    shapes = [f"{spec.name} {spec.dtype} (N, {', '.join(map(str, spec.shape))})" for spec in signature.tensors]
    kind = {"array": "an array:", "tuple": "a tuple of arrays:", "dict": "a dict of arrays:"}[signature.structure]
    return f"{kind} {'; '.join(shapes)}"


def _split(manifest: Manifest) -> str:
    if manifest.test is not None:
        return "the accuracy is that on the test split, which the search never saw"
    return "**the accuracy is that on the validation split, which the search chose by**: the job ended before it was confirmed"


def _table(manifest: Manifest) -> str:
    found = manifest.promised
    rows = [
        ("speed-up", f"{found.speedup.value:.3g}× ({found.speedup.low:.3g}–{found.speedup.high:.3g})"),
        ("latency", f"{_latency(found)} a sample"),
        (manifest.metric, f"{found.score.value:.4g} ({found.score.low:.4g}–{found.score.high:.4g})"),
        (
            "lost against the reference",
            f"{found.score_drop.value:.3g} ({found.score_drop.low:.3g}–{found.score_drop.high:.3g})",
        ),
        ("size", f"{found.size_bytes / 1e6:.3g} MB"),
        ("memory", f"{found.peak_rss_bytes / 1e6:.3g} MB"),
    ]
    return "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _latency(found: Measurement) -> str:
    return f"{found.latency_ms.value:.3g} ms ({found.latency_ms.low:.3g}–{found.latency_ms.high:.3g})"
