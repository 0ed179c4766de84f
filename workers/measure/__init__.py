"""Timing and judging an artifact.

`run.measure` is called in a process of its own; what it takes and answers is in `records`.
"""

from autoopt.workers.measure.records import MeasureRequest, ServedArtifact, Timing, TimingSettings

__all__ = ["MeasureRequest", "ServedArtifact", "Timing", "TimingSettings"]
