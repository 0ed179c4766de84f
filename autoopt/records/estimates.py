"""Arithmetic of figures with intervals: the interval of a difference or a ratio from the intervals of its parts.

The limits are recovered from the two intervals and not from standard errors (MOVER: Zou and Donner, *Construction of
confidence limits about effect measures*, Statistics in Medicine 27, 2008): intervals of speed-ups and of small shares
are not symmetric, and a bootstrap gives no standard error. The two parts' errors are taken as independent. Score drops
of two configs share the reference and its samples, hence correlate positively: for them the interval is too wide rather
than too narrow.
"""

from __future__ import annotations

import math

from autoopt.records import Estimate


def difference(first: Estimate, second: Estimate) -> Estimate:
    """``first - second`` with its 95 % confidence interval."""
    value = first.value - second.value
    return Estimate(
        value=value,
        low=value - math.hypot(first.value - first.low, second.high - second.value),
        high=value + math.hypot(first.high - first.value, second.value - second.low),
    )


def ratio(first: Estimate, second: Estimate) -> Estimate:
    """``first / second`` with its 95 % confidence interval, combined on the log scale.

    Both must be positive: ratios of times are.
    """
    logs = difference(_log(first), _log(second))
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def _log(estimate: Estimate) -> Estimate:
    return Estimate(math.log(estimate.value), math.log(estimate.low), math.log(estimate.high))
