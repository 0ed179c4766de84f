from __future__ import annotations

import pytest

from autoopt.front.words import ScoreWords, figure, interval, number, speed, with_interval
from autoopt.records import Estimate


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(14.2345, 13.6, 14.9), "14.2× (95 % CI 13.6–14.9)"),
        (Estimate(14.2345, 14.15, 14.31), "14.23× (95 % CI 14.15–14.31)"),
        (Estimate(142.3, 120.0, 165.0), "142× (95 % CI 120–165)"),
    ],
)
def test_no_more_digits_are_shown_than_the_interval_supports(estimate: Estimate, text: str) -> None:
    assert with_interval(estimate, "×") == text


def test_an_exact_figure_has_three_significant_digits() -> None:
    assert figure(Estimate(0.25912, 0.25912, 0.25912)) == "0.259"
    assert number(31.04) == "31.0"
    assert number(0) == "0"


def test_minus_is_typographic_and_zero_has_no_sign() -> None:
    assert interval(Estimate(0.1, -0.1, 0.3)) == "−0.1 to 0.3"
    assert number(-0.001, 1) == "0.0"


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        (Estimate(0.004, 0.001, 0.007), "at 0.4 points less accuracy (CI 0.1–0.7)"),
        (Estimate(-0.004, -0.007, -0.001), "at 0.4 points more accuracy (CI 0.1–0.7)"),
        (
            Estimate(0.001, -0.002, 0.004),
            "at an accuracy that cannot be told from its own (drop 0.1 points, CI −0.2 to 0.4)",
        ),
        (Estimate(0.0, 0.0, 0.0), "at the same accuracy"),
    ],
)
def test_a_drop_is_said_as_what_is_certain_about_it(drop: Estimate, text: str) -> None:
    assert ScoreWords("accuracy", in_points=True).drop(drop) == text


def test_a_speed_is_said_as_what_is_certain_about_it() -> None:
    assert speed(Estimate(2.0, 1.9, 2.1)).startswith("2.0× faster")
    assert speed(Estimate(0.5, 0.45, 0.55)).startswith("2.0× slower")
    assert speed(Estimate(1.0, 0.95, 1.05)).startswith("not distinguishably")
