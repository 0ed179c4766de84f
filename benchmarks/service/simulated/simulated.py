"""Plugins that take time and no processor: what they stand for sleeps. They join through the entry points, as a third party's would.

A measurement is none of a plugin's business, so `sitecustomize` puts `timed` in its place: it makes up a figure instead of timing.
Every network is faster than the original by its own amount and loses the same, so that none is ever given up for another:
what a job of these does is decided by nothing but its slots.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

from autoopt.records import Effective, Estimate, Fidelity, Latency, Measurement, to_json
from autoopt.records.environment import current
from autoopt.workers.engines.base import Offer
from autoopt.workers.engines.null import Null
from autoopt.workers.measure.records import Timing
from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Context, Technique

if TYPE_CHECKING:
    from autoopt.workers.stages.run import Work

LOST = 0.2
"""Of the score, by every network that is changed: far from what could be hoped for while it trains."""
REFERENCE_MS = 1.0


class Simulated(Null):
    """The null engine under a name that a space can hold."""

    name = "simulated"

    def offer(self) -> Offer:
        """On a CPU, in FP32."""
        return Offer(self.name, "1.0", {"cpu": ("fp32",)})


class Variant(Technique):
    """A change of the network that changes nothing."""

    name = "variant"

    def apply(self, model: Any, params: Any, context: Context) -> tuple[Any, dict[str, float]]:  # noqa: ARG002 (the seam's)
        """The same network."""
        return model, {}


class Rehearsal(Technique):
    """A training that only takes its time. ``number``: as many different ones as one likes, all alike."""

    name = "rehearsal"
    needs_training = True
    parameters = (
        Parameter("epochs", 1.0, low=0.001, high=1000.0),
        Parameter("offset", 0.0, low=0.0, high=1000.0),
        Parameter("number", 0, low=0, high=1_000_000),
        Parameter("seconds_per_epoch", 1.0, low=0.0, high=100_000.0),
    )

    def apply(self, model: Any, params: Any, context: Context) -> tuple[Any, dict[str, float]]:
        """The same network, later."""
        pace_s = float(params["seconds_per_epoch"])
        time.sleep(pace_s * float(params["epochs"]))
        return model, {"score": context.task.reference_score, "seconds_per_epoch": pace_s}


def timed(work: Work) -> dict[str, Any]:
    """A probe or a measurement, made up; see the module. The reference is who has no other artifact beside it."""
    params, task = work.params, work.task
    own = len(work.parents) == 2
    faster = 1.0 if own else 1.5 + int(params["candidate"][:6], 16) / 0xFFFFFF
    speedup, effective = _exactly(faster), Effective("1.0", "cpu", "fp32", 1)
    latency_ms = REFERENCE_MS / faster
    latency = Latency(latency_ms, latency_ms, latency_ms, REFERENCE_MS, 16, 1000, 0)
    if work.name == "none":
        return dict(to_json(Timing(speedup, latency, effective, 0.0, 0.0, 0, 0.0)))
    lost = 0.0 if own else LOST
    return dict(
        to_json(
            Measurement(
                candidate_id=params["candidate"],
                split=work.name,
                samples=task.splits[work.name],
                scenario=params["scenario"],
                speedup=speedup,
                latency_ms=_exactly(latency_ms),
                score=_exactly(task.reference_score - lost),
                score_drop=_exactly(lost),
                agreement=1.0,
                latency=latency,
                fidelity=Fidelity(1.0, 0.0, 0.0, 0),
                size_bytes=0,
                peak_rss_bytes=0,
                load_s=0.0,
                first_ms=0.0,
                effective=effective,
                environment=current(),
                taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            )
        )
    )


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value)
