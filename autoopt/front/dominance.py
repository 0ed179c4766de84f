"""Dominance that respects intervals: which configs no other config beats, given the uncertainty of both figures.

Point estimates alone make a front of noise: a config that is 0.02 points "better" and 30 % slower would stand on it.
The rule, for two configs a and b of one job:

* a is *distinguishably faster* than b when the 95 % interval of the ratio of their latencies leaves out 1, and
  *distinguishably better* when the interval of the difference of their score drops leaves out 0
  (`autoopt.records.estimates`; drops and not scores, because drops are paired with the reference on the same samples).
* a **beats** b when it is distinguishably ahead on one axis and, by point estimates, not behind on the other by more than
  what is negligible: `NEGLIGIBLE_SCORE`, `NEGLIGIBLE_LATENCY`. What is merely not *known* to be better is not struck out:
  a config that measures 0.4 points better stays, with the remark that this may be chance.
* a and b **cannot be told apart** when neither is distinguishably ahead on either axis. Of such a pair the front lists
  the faster by point estimate, and names the other.
* The **front** is the set of configs such that no listed config beats, or cannot be told apart from, another listed one,
  and every config left out is beaten by, or cannot be told apart from, a listed one: the kernel of the relation.

Why a kernel, and not "whatever nobody beats": ties are not transitive. Of a chain of configs, each tied with the next,
only some can stand for the others. The kernel is found by listing, again and again, the fastest config that none of the
remaining beats, and striking out what it beats and what cannot be told apart from it.

A config that another one precedes on both point estimates is beaten by it or cannot be told apart from it, so the front
consists of members of the point estimates' Pareto set (except where such a member was left out for the sake of a third).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autoopt.front.config import Config
from autoopt.records import Estimate

Relation: TypeAlias = npt.NDArray[np.bool_]

NEGLIGIBLE_SCORE = 0.001
"""Of the score: 0.1 points of an accuracy near 1."""
NEGLIGIBLE_LATENCY = 0.02
"""Of the latency."""


def front(configs: Sequence[Config]) -> tuple[Config, ...]:
    """The configs that no other beats, by latency, the fastest first; see the module's rule."""
    remaining = sorted(configs, key=_order)
    relations = _compare(remaining)
    return tuple(remaining[index] for index in _kernel(relations))


def beaten_by(config: Config, configs: Sequence[Config]) -> tuple[Config, ...]:
    """Those of ``configs`` that beat ``config``; see the module's rule."""
    others = [other for other in configs if other.id != config.id]
    column = _compare([config, *others]).beats[1:, 0]
    return tuple(other for other, beats in zip(others, column, strict=True) if beats)


def indistinguishable_from(config: Config, configs: Sequence[Config]) -> tuple[Config, ...]:
    """Those of ``configs`` that cannot be told apart from ``config`` on either axis."""
    others = [other for other in configs if other.id != config.id]
    row = _compare([config, *others]).ties[0, 1:]
    return tuple(other for other, tied in zip(others, row, strict=True) if tied)


def _order(config: Config) -> tuple[float, float, int]:
    return (config.latency_ms.value, config.score_drop.value, config.number)


@dataclass(frozen=True)
class _Relations:
    """Entry (i, j): what config i is to config j. Both bool, (N, N)."""

    beats: Relation
    ties: Relation


def _compare(configs: Sequence[Config]) -> _Relations:
    faster = _distinguishably_less([config.latency_ms for config in configs], log=True)
    better = _distinguishably_less([config.score_drop for config in configs], log=False)
    return _Relations(
        beats=(faster & _hardly_worse(configs)) | (better & _hardly_slower(configs)),
        ties=~(faster | faster.T | better | better.T),
    )


def _hardly_worse(configs: Sequence[Config]) -> Relation:
    """Entry (i, j): i loses no more than j, or negligibly more."""
    drops = np.array([config.score_drop.value for config in configs])
    scores = np.abs([config.score.value for config in configs])
    hardly: Relation = drops[:, None] <= drops[None, :] + NEGLIGIBLE_SCORE * np.maximum(
        scores[:, None], scores[None, :]
    )
    return hardly


def _hardly_slower(configs: Sequence[Config]) -> Relation:
    """Entry (i, j): i takes no longer than j, or negligibly longer."""
    latencies = np.array([config.latency_ms.value for config in configs])
    hardly: Relation = latencies[:, None] <= latencies[None, :] * (1 + NEGLIGIBLE_LATENCY)
    return hardly


def _distinguishably_less(estimates: Sequence[Estimate], *, log: bool) -> Relation:
    """Entry (i, j): the interval of ``j - i`` lies above 0. The same arithmetic as `estimates.difference`, for all pairs."""
    figures = np.array([(item.value, item.low, item.high) for item in estimates], dtype=float).reshape(-1, 3)
    value, low, high = (np.log(figures) if log else figures).T
    margin = np.hypot((high - value)[:, None], (value - low)[None, :])
    less: Relation = value[None, :] - value[:, None] > margin
    return less


def _kernel(relations: _Relations) -> list[int]:
    """Indices, ascending, of the listed: none beats or ties another, and each of the others is beaten by or ties one."""
    remaining = np.ones(len(relations.beats), dtype=bool)
    listed = []
    while remaining.any():
        unbeaten = remaining & ~relations.beats[remaining].any(axis=0)
        index = int(np.flatnonzero(unbeaten if unbeaten.any() else remaining)[0])
        listed.append(index)
        remaining &= ~(relations.beats[index] | relations.ties[index])
        remaining[index] = False
    return sorted(listed)
