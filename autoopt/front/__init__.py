"""The front: the configs that no other config beats on score and latency both, given the uncertainty of both."""

from autoopt.front.config import Config
from autoopt.front.dominance import beaten_by, front, indistinguishable_from
from autoopt.front.goals import Goals
from autoopt.front.hypervolume import hypervolume
from autoopt.front.pareto import Front, build_front
from autoopt.front.pick import Exporter, Pick

__all__ = [
    "Config",
    "Exporter",
    "Front",
    "Goals",
    "Pick",
    "beaten_by",
    "build_front",
    "front",
    "hypervolume",
    "indistinguishable_from",
]
