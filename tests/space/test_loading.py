from __future__ import annotations

from pathlib import Path

import pytest

from autoopt.errors import SpaceError
from autoopt.space import Interval, Listed, load_space, parse_space, shipped_spaces


def test_a_list_a_value_and_a_range_become_domains() -> None:
    text = """
model:
  t:
    names: [a, b]
    one: 3
    steps: {low: 0.1, high: 0.5, step: 0.1}
    whole: {low: 1, high: 4}
    rate: {low: 0.01, high: 1.0, log: true}
deployment: {engine: {e: }}
"""
    parameters = {name: spec.values for name, spec in parse_space(text).model["t"].parameters.items()}
    assert parameters == {
        "names": Listed(("a", "b")),
        "one": Listed((3,)),
        "steps": Listed((0.1, 0.2, 0.3, 0.4, 0.5)),
        "whole": Listed((1, 2, 3, 4)),
        "rate": Interval(0.01, 1.0, log=True),
    }


def test_every_mistake_is_listed_with_its_path_and_what_may_have_been_meant() -> None:
    text = """
abut: x
model:
  student: {optional: 3, depth: []}
  recovery: {rungs: [2, 1]}
deployment:
  thread: [1]
  engine: {ort: {precison: int8}}
  batch: [0]
"""
    with pytest.raises(SpaceError) as error:
        parse_space(text, "mine")
    message = str(error.value)
    assert '"mine"' in message
    for said in (
        'abut: there is no key "abut"; did you mean "about"?',
        'deployment.thread: there is no key "thread"; did you mean "threads"?',
        "model.student.optional",
        "model.student.depth",
        "model.recovery: rungs must rise",
        "deployment.batch.0",
    ):
        assert said in message


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("{low: 2, high: 1}", "must not be above"),
        ("{low: 0, high: 1, log: true}", "low above 0"),
        ("{low: 0, high: 1, step: 0}", "step must be above 0"),
        ("[1, 1]", "listed twice"),
        ("{lo: 1, high: 2}", "expected a value"),
        ("[.nan]", "a list of choices"),
    ],
)
def test_a_domain_that_makes_no_sense_is_refused_with_the_reason(domain: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        parse_space(f"model: {{t: {{x: {domain}}}}}\ndeployment: {{engine: {{e: }}}}")


def test_a_key_given_twice_is_refused_since_yaml_would_take_the_last() -> None:
    with pytest.raises(SpaceError, match="engine is given twice"):
        parse_space("deployment:\n  engine: {a: }\n  engine: {b: }\n")


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "about: no deployment"])
def test_a_text_that_is_no_space_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        parse_space(text)


def test_overrides_change_nested_and_dotted_keys_and_none_removes(text: str) -> None:
    overrides = {
        "deployment.threads": [4],
        "model": {"student": {"depth": [0.5]}, "pruning": None},
        "scenario": "offline",
    }
    space = parse_space(text, "test", overrides)
    assert space.deployment.threads == (4,)
    assert space.model["student"].parameters["depth"].values == Listed((0.5,))
    assert space.model["student"].optional
    assert "pruning" not in space.model
    assert space.scenario == "offline"


def test_the_kept_text_makes_the_same_space_again(text: str) -> None:
    space = parse_space(text, "test", {"deployment.threads": [4]})
    again = parse_space(space.text, "test")
    assert again.model == space.model
    assert again.deployment == space.deployment


def test_a_space_is_found_by_name_or_path_and_a_misspelt_name_lists_the_shipped_ones(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_space(path).name == "mine"
    assert load_space("quick").name == "quick"
    with pytest.raises(SpaceError, match='did you mean "quick"') as error:
        load_space("quik")
    assert all(name in str(error.value) for name in shipped_spaces())
    with pytest.raises(SpaceError, match="no file"):
        load_space(tmp_path / "other.yaml")


def test_a_server_needs_a_bound() -> None:
    text = "scenario: server\ndeployment:\n  engine: {openvino: }\n"
    with pytest.raises(SpaceError, match="needs p99_ms"):
        parse_space(text, "mine")
    assert parse_space(text, "mine", {"p99_ms": 5}).p99_ms == 5
