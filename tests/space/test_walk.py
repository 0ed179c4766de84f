from __future__ import annotations

from random import Random
from typing import Protocol

from autoopt.records import Candidate, Deployment, Step
from autoopt.space import Space, choices_of, domains_of, draw, every, recompose, size


class Resolve(Protocol):
    def __call__(self, text: str, overrides: object = None, **facts: object) -> Space: ...


def assert_valid(space: Space, candidate: Candidate) -> None:
    """The rules of a candidate, written down a second time, without the walk."""
    target = space.target(candidate.deployment)
    assert target is not None
    assert candidate.deployment.fusion in target.fusions
    assert candidate.deployment.threads in space.threads
    names = [step.technique for step in candidate.model]
    assert names == [step.technique for step in space.steps if step.technique in names]
    quantizations = [step for step in candidate.model if space.step(step.technique).precision]
    assert [space.step(step.technique).precision for step in quantizations] == (
        [candidate.deployment.precision] if target.quantizers else []
    )
    changed = any(space.step(name).changes_structure for name in names)
    assert ("recovery" in names) is changed
    for step in candidate.model:
        for parameter in space.step(step.technique).parameters:
            value = step.params.get(parameter.name, parameter.fallback)
            assert parameter.domain.contains(value) or value == parameter.fallback


def test_thousands_of_draws_are_valid_and_can_be_read_back(space: Space) -> None:
    random = Random(0)
    for _ in range(3000):
        candidate = draw(space, random)
        assert_valid(space, candidate)
        choices = choices_of(space, candidate)
        assert choices is not None
        assert recompose(space, choices) == candidate
        assert domains_of(space, candidate).keys() == choices.keys()


def test_the_size_is_the_number_of_different_candidates(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"model.recovery.rate": 0.02, "model.student.order": "early"}, cores=2)
    found = [candidate.id for candidate in every(space)]
    assert len(set(found)) == len(found) == size(space).count
    assert size(space).exact


def test_a_continuum_makes_the_size_a_lower_bound(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"model.recovery.rate": {"low": 0.01, "high": 0.1, "log": True}})
    assert not size(space).exact
    assert str(size(space)).startswith("more than")


def test_a_conditional_parameter_has_its_default_where_the_condition_fails(space: Space) -> None:
    both = recompose(space, {"student": True, "pruning": True, "pruning.importance": "taylor"})
    alone = recompose(space, {"pruning": True, "pruning.importance": "taylor"})
    assert "importance" not in both.step("pruning").params  # type: ignore[union-attr] (it is there)
    assert alone.step("pruning").params["importance"] == "taylor"  # type: ignore[union-attr] (it is there)


def test_a_candidate_of_another_space_is_not_read_as_one_of_this(space: Space) -> None:
    assert choices_of(space, Candidate((), Deployment("elsewhere"))) is None
    assert choices_of(space, Candidate((Step("student", {"depth": 0.3}),), Deployment("runtime", fusion="all"))) is None
    assert choices_of(space, Candidate((), Deployment("runtime", "int8", "all"))) is None


def test_equal_spaces_have_equal_fingerprints_and_unequal_ones_others(resolved: Resolve, text: str) -> None:
    assert resolved(text, cores=2).fingerprint == resolved(text, cores=2).fingerprint
    assert resolved(text, cores=2).fingerprint != resolved(text, cores=1).fingerprint


SERVED = """
scenario: server
p99_ms: 10
deployment:
  engine:
    runtime: {precision: fp32}
    vino: {precision: fp32, streams: [1, 2], hint: {values: [latency, throughput], when: {.streams: 2}}}
  batch: [1, 4]
  threads: [1, 2]
  instances: [1, 2]
  batching: [dynamic, static]
  max_wait_ms: [0, 2]
"""


def test_instances_never_take_more_cores_than_the_lane_has(resolved: Resolve) -> None:
    for cores in (1, 2, 4):
        served = [candidate.deployment for candidate in every(resolved(SERVED, cores=cores))]
        assert {(each.threads, each.instances) for each in served} == {
            (threads, instances) for threads in (1, 2) for instances in (1, 2) if threads * instances <= cores
        }


def test_only_a_batch_of_several_waits(resolved: Resolve) -> None:
    served = [candidate.deployment for candidate in every(resolved(SERVED))]
    assert {(each.batching, each.max_wait_ms) for each in served if each.batch == 1} == {("static", 0.0)}
    assert {(each.batching, each.max_wait_ms) for each in served if each.batch == 4} == {
        ("static", 0.0),
        ("dynamic", 0.0),
        ("dynamic", 2.0),
    }


def test_an_engines_options_are_choices_of_that_engine_alone_and_said_where_they_are_not_its_defaults(
    resolved: Resolve,
) -> None:
    space = resolved(SERVED)
    chosen = {(each.deployment.engine, *sorted(each.deployment.options.items())) for each in every(space)}
    assert chosen == {
        ("runtime",),
        ("vino",),
        ("vino", ("streams", 2)),
        ("vino", ("hint", "throughput"), ("streams", 2)),
    }
    for candidate in every(space):
        choices = choices_of(space, candidate)
        assert choices is not None
        assert recompose(space, choices) == candidate


def test_a_deployment_with_options_can_be_a_key(resolved: Resolve) -> None:
    found = {candidate.deployment: candidate.id for candidate in every(resolved(SERVED))}
    assert len(found) == len(set(found.values()))
