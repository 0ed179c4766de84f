from __future__ import annotations

import optuna
import pytest

from autoopt.errors import UserError
from autoopt.records import Candidate, Deployment
from autoopt.search.sampler import SAMPLERS, make_sampler, parameters_of, sample, start_parameters
from autoopt.space import Space, choices_of


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(sampler: str, seed: int = 0) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(sampler, seed))


def test_every_sampled_candidate_is_valid_and_can_be_enqueued_again(space: Space) -> None:
    study, again = study_of("random"), study_of("random", 1)
    for _ in range(1000):
        trial = study.ask()
        candidate = sample(space, trial)
        assert choices_of(space, candidate) is not None
        assert parameters_of(space, candidate) == trial.params
        again.enqueue_trial(dict(trial.params))
        assert sample(space, again.ask()) == candidate


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_samples_valid_candidates_after_it_has_learnt(space: Space, name: str) -> None:
    study = study_of(name)
    for number in range(12):
        trial = study.ask()
        candidate = sample(space, trial)
        assert choices_of(space, candidate) is not None
        trial.set_constraint("viable", -1.0)
        study.tell(trial, [0.9 - number / 100, 1.0 + number / 10])


def test_the_same_seed_samples_the_same_candidates(space: Space) -> None:
    first, second = study_of("tpe", 3), study_of("tpe", 3)
    assert [sample(space, first.ask()).id for _ in range(5)] == [sample(space, second.ask()).id for _ in range(5)]


def test_a_sampled_network_begins_at_the_starting_rung(space: Space) -> None:
    study = study_of("random")
    for _ in range(50):
        study.enqueue_trial(dict(start_parameters(space)))
        assert space.trained_for(sample(space, study.ask())) in {None, 0.0625}


def test_a_candidate_outside_the_space_has_no_parameters(space: Space) -> None:
    assert parameters_of(space, Candidate((), Deployment("elsewhere"))) is None


def test_a_misspelt_sampler_lists_those_there_are() -> None:
    with pytest.raises(UserError, match='did you mean "tpe"'):
        make_sampler("tp")
