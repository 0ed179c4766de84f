"""The search space: which choices exist, and which depend on which.

A file (`load_space`) says what may be tried; `resolve` leaves what can work for this task on this machine; `walk` is the one
way through what is left.
"""

from autoopt.space.counting import Size, size
from autoopt.space.domains import Domain, Interval, Listed, Value
from autoopt.space.loading import load_space, parse_space, shipped_spaces
from autoopt.space.resolution import resolve
from autoopt.space.resolved import Exclusion, ParameterChoice, Space, StepChoice, Target, TaskFacts
from autoopt.space.schema import SpaceFile
from autoopt.space.walk import choices_of, compose, domains_of, draw, every, recompose

__all__ = [
    "Domain",
    "Exclusion",
    "Interval",
    "Listed",
    "ParameterChoice",
    "Size",
    "Space",
    "SpaceFile",
    "StepChoice",
    "Target",
    "TaskFacts",
    "Value",
    "choices_of",
    "compose",
    "domains_of",
    "draw",
    "every",
    "load_space",
    "parse_space",
    "recompose",
    "resolve",
    "shipped_spaces",
    "size",
]
