"""Imported by the warmed parents of stages' processes: what nearly every stage needs of ours, and none of the engines.

Seventy milliseconds of a core that each stage's process would spend anew.
"""

import cloudpickle
from torch.utils import serialization

from autoopt.workers import engines, formats, plugins, techniques
from autoopt.workers.engines import common
from autoopt.workers.measure import run as measuring
from autoopt.workers.stages import run, teaching

__all__ = ["cloudpickle", "common", "formats", "measuring", "run", "serialization", "teaching"]

techniques.own()
for group in (engines.ENTRY_POINTS, techniques.ENTRY_POINTS):
    plugins.entry_points(group)
