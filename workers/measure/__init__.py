"""Timing and judging an artifact.

`run.measure` is called in a process of its own; what it takes and answers is in `records`.
"""

from autoopt.workers.measure.records import SCENARIOS, MeasureRequest, ServedArtifact, Timing, TimingSettings

__all__ = ["SCENARIOS", "MeasureRequest", "ServedArtifact", "Timing", "TimingSettings"]
