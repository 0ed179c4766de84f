"""Optuna's samplers walk the space: a candidate is what their suggestions describe, and the way back exists too.

Ordered values are suggested by their place in the list, so that a sampler knows that 0.3 lies between 0.2 and 0.4. Names are
stable: the same choice has the same name and the same values in every trial of a study, as Optuna demands.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autoopt.errors import UserError
from autoopt.records import Candidate
from autoopt.space import Domain, Interval, Space, Value, choices_of, compose, domains_of
from autoopt.space.names import unknown

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

Parameters: TypeAlias = dict[str, Value]
"""What Optuna stores of a trial: places in ordered lists, names, numbers."""


def sample(space: Space, trial: Trial) -> Candidate:
    """The candidate that the trial's suggestions describe. Valid by construction."""

    def suggest(name: str, domain: Domain, _default: Value) -> Value:
        if isinstance(domain, Interval):
            if domain.integer:
                return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
            return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
        if domain.ordered:
            return domain.values[trial.suggest_int(name, 0, len(domain.values) - 1)]
        return cast("Value", trial.suggest_categorical(name, list(domain.values)))  # never None: none is offered

    return compose(space, suggest)


def parameters_of(space: Space, candidate: Candidate) -> Parameters | None:
    """The inverse of `sample`, for `Study.enqueue_trial`; None where the candidate is not one of this space."""
    choices = choices_of(space, candidate)
    return None if choices is None else encode(choices, domains_of(space, candidate))


def recorded(space: Space, candidate: Candidate) -> tuple[Parameters, dict[str, BaseDistribution]] | None:
    """What a trial of that candidate holds: its parameters and what they were chosen from; None where it is not one of this space."""
    choices = choices_of(space, candidate)
    if choices is None:
        return None
    domains = domains_of(space, candidate)
    return encode(choices, domains), {name: distribution_of(domains[name]) for name in choices}


def distribution_of(domain: Domain) -> BaseDistribution:
    """What `sample` draws from."""
    if isinstance(domain, Interval):
        if domain.integer:
            return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    if domain.ordered:
        return IntDistribution(0, len(domain.values) - 1)
    return CategoricalDistribution(domain.values)


def encode(choices: Mapping[str, Value], domains: Mapping[str, Domain]) -> Parameters:
    """Values as Optuna stores them."""
    return {name: _encoded(value, domains[name]) for name, value in choices.items()}


def _encoded(value: Value, domain: Domain) -> Value:
    if isinstance(domain, Interval) or not domain.ordered:
        return value
    return domain.values.index(value)


def start_parameters(space: Space) -> Parameters:
    """What a sampled candidate does not choose itself: it begins at the starting rung, and is promoted if it deserves it."""
    trainer = space.trainer
    if trainer is None or trainer.start is None or len(trainer.rungs) < 2:  # noqa: PLR2004 (one rung is no choice)
        return {}
    domain = next(parameter.domain for parameter in trainer.parameters if parameter.name == "epochs")
    return {f"{trainer.technique}.epochs": _encoded(trainer.start, domain)}


def make_sampler(name: str = "tpe", seed: int = 0) -> BaseSampler:
    """One of Optuna's samplers.

    tpe (the default) knows conditional choices; gp models few evaluations best where choices are not conditional; nsgaii
    and random are for comparison. Sources: Watanabe 2023 (arXiv:2304.11127) for TPE, Deb et al. 2002 for NSGA-II.

    Raises:
        UserError: there is no such sampler.
    """
    if name not in _SAMPLERS:
        message = unknown("sampler", name, _SAMPLERS)
        raise UserError(message[:1].upper() + message[1:])
    return _SAMPLERS[name](seed)


def _tpe(seed: int) -> BaseSampler:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        # ``group`` splits a conditional space into its branches; its interface has been called experimental since 2.8.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)


def _nsgaii(seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=20, seed=seed)


def _gp(seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "gp": _gp, "nsgaii": _nsgaii, "random": _random}
SAMPLERS = tuple(_SAMPLERS)
