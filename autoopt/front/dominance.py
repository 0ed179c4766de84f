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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autoopt.front.config import Config
from autoopt.records import Estimate

Mask: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = int | slice
EVERY = slice(None)

NEGLIGIBLE_SCORE = 0.001
"""Of the score: 0.1 points of an accuracy near 1."""
NEGLIGIBLE_LATENCY = 0.02
"""Of the latency."""


def front(configs: Sequence[Config]) -> tuple[Config, ...]:
    """The configs that no other beats, by latency, the fastest first; see the module's rule."""
    remaining = sorted(configs, key=order)
    return tuple(remaining[index] for index in _kernel(Compared(remaining)))


def beaten_by(config: Config, configs: Sequence[Config]) -> tuple[Config, ...]:
    """Those of ``configs`` that beat ``config``; see the module's rule."""
    others = [other for other in configs if other.id != config.id]
    beats = Compared([config, *others]).beating(0)[1:]
    return tuple(other for other, each in zip(others, beats, strict=True) if each)


def indistinguishable_from(config: Config, configs: Sequence[Config]) -> tuple[Config, ...]:
    """Those of ``configs`` that cannot be told apart from ``config`` on either axis."""
    others = [other for other in configs if other.id != config.id]
    tied = Compared([config, *others]).tied_with(0)[1:]
    return tuple(other for other, each in zip(others, tied, strict=True) if each)


def order(config: Config) -> tuple[float, float, int]:
    """By which the fastest comes first, and of those the best."""
    return (config.latency_ms.value, config.score_drop.value, config.number)


class Compared:
    """Configs, and how one of them stands to all. One row or column at a time: ten thousand have a hundred million pairs."""

    def __init__(self, configs: Sequence[Config]) -> None:
        """``configs``: N of them, known by their places from here on."""
        self.configs = tuple(configs)
        self._latency = _Figures([config.latency_ms for config in configs], log=True)
        self._drop = _Figures([config.score_drop for config in configs], log=False)
        self._latencies = np.array([config.latency_ms.value for config in configs])
        self._drops = np.array([config.score_drop.value for config in configs])
        self._scores = np.abs([config.score.value for config in configs])

    def __len__(self) -> int:
        return len(self.configs)

    def beating(self, index: int) -> Mask:
        """Who beats it. (N,)"""
        faster, better = self._latency.less_than(index), self._drop.less_than(index)
        return (faster & self._hardly_worse(EVERY, index)) | (better & self._hardly_slower(EVERY, index))

    def beaten_by(self, index: int) -> Mask:
        """Whom it beats. (N,)"""
        faster, better = self._latency.more_than(index), self._drop.more_than(index)
        return (faster & self._hardly_worse(index, EVERY)) | (better & self._hardly_slower(index, EVERY))

    def tied_with(self, index: int) -> Mask:
        """Who cannot be told apart from it on either axis; itself among them. (N,)"""
        return ~(
            self._latency.more_than(index)
            | self._latency.less_than(index)
            | self._drop.more_than(index)
            | self._drop.less_than(index)
        )

    def _hardly_worse(self, these: Places, those: Places) -> Mask:
        """Whether these lose no more than those, or negligibly more."""
        negligible = NEGLIGIBLE_SCORE * np.maximum(self._scores[these], self._scores[those])
        hardly: Mask = self._drops[these] <= self._drops[those] + negligible
        return hardly

    def _hardly_slower(self, these: Places, those: Places) -> Mask:
        """Whether these take no longer than those, or negligibly longer."""
        hardly: Mask = self._latencies[these] <= self._latencies[those] * (1 + NEGLIGIBLE_LATENCY)
        return hardly


class _Figures:
    """Estimates of one axis. The arithmetic is that of `estimates.difference`."""

    def __init__(self, estimates: Sequence[Estimate], *, log: bool) -> None:
        figures = np.array([(item.value, item.low, item.high) for item in estimates], dtype=float).reshape(-1, 3)
        columns: npt.NDArray[np.float64] = (np.log(figures) if log else figures).T
        value, low, high = columns
        self._value, self._above, self._below = value, high - value, value - low

    def less_than(self, index: int) -> Mask:
        """Which are distinguishably less: the interval of the difference to them lies above 0. (N,)"""
        less: Mask = self._value[index] - self._value > np.hypot(self._above, self._below[index])
        return less

    def more_than(self, index: int) -> Mask:
        """Which are distinguishably more. (N,)"""
        more: Mask = self._value - self._value[index] > np.hypot(self._above[index], self._below)
        return more


def _kernel(compared: Compared) -> list[int]:
    """Places, ascending, of the listed: none beats or ties another, and each of the others is beaten by or ties one."""
    remaining = np.ones(len(compared), dtype=bool)
    listed = []
    witness: dict[int, int] = {}
    while remaining.any():
        index = _first_unbeaten(compared, remaining, witness)
        listed.append(index)
        remaining &= ~(compared.beaten_by(index) | compared.tied_with(index))
        remaining[index] = False
    return sorted(listed)


def _first_unbeaten(compared: Compared, remaining: Mask, witness: dict[int, int]) -> int:
    """The first that none of the remaining beats; the first of them, where each is beaten.

    ``witness`` says by whom one is beaten: nobody has to be asked again while that one remains.
    """
    places = np.flatnonzero(remaining).tolist()
    for place in places:
        if place in witness and remaining[witness[place]]:
            continue
        beating = np.flatnonzero(remaining & compared.beating(place))
        if not beating.size:
            return int(place)
        witness[place] = int(beating[0])
    return int(places[0])
