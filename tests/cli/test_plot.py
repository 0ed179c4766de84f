from __future__ import annotations

from itertools import pairwise

import pytest

from autoopt.cli.plot import LEAST_HEIGHT, LEAST_WIDTH, Point, plot

FRONT = [Point(0.04, 0.92, "a"), Point(0.05, 0.93, "b"), Point(0.08, 0.935, "c"), Point(0.3, 0.938, "d")]
REFERENCE = Point(0.5, 0.9385, "R")


def place(lines: list[str], glyph: str) -> tuple[int, int]:
    """Line and column of a character of the plot's inside."""
    found = [
        (row, line.index(glyph, line.index("|")))
        for row, line in enumerate(lines[1:-2], 1)
        if glyph in line[line.index("|") :]
    ]
    assert len(found) == 1, f"{glyph} is drawn {len(found)} times"
    return found[0]


@pytest.fixture
def drawn() -> list[str]:
    return plot(FRONT, [REFERENCE], 80, 16, "accuracy", unicode=False)


def test_a_faster_config_is_further_left_and_a_better_one_higher(drawn: list[str]) -> None:
    places = [place(drawn, point.glyph) for point in (*FRONT, REFERENCE)]
    columns, rows = [column for _, column in places], [row for row, _ in places]
    assert columns == sorted(set(columns))
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[-1]


def test_latency_is_on_a_log_axis() -> None:
    points = [Point(0.1, 1.0, "a"), Point(1.0, 2.0, "b"), Point(10.0, 3.0, "c")]
    columns = [place(plot(points, [], 100, 12, "score", unicode=False), glyph)[1] for glyph in "abc"]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=1)


def test_the_axes_say_what_they_are_and_their_figures_belong_to_their_places(drawn: list[str]) -> None:
    assert drawn[0].endswith("| accuracy")
    assert drawn[-1].endswith(" ms")
    row, column = place(drawn, "d")
    labelled = {index: float(line[: line.index("|")]) for index, line in enumerate(drawn[1:-2], 1) if line[0] != " "}
    above, below = max(i for i in labelled if i <= row), min(i for i in labelled if i > row)
    assert labelled[above] > 0.938 > labelled[below] or above == row
    assert drawn[-1].index("0.2") < column < drawn[-1].index("0.5")


def test_the_front_is_a_staircase_that_never_falls(drawn: list[str]) -> None:
    steps = {}
    for row, line in enumerate(drawn[1:-2], 1):
        for column, character in enumerate(line[line.index("|") + 1 :]):
            if character == ".":
                steps.setdefault(column, []).append(row)
    columns = sorted(steps)
    assert columns, "nothing is drawn"
    for left, right in pairwise(columns):
        assert min(steps[right]) <= min(steps[left])


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [LEAST_WIDTH, 53, 80, 200])
@pytest.mark.parametrize("height", [LEAST_HEIGHT, 10, 31])
def test_a_plot_keeps_to_its_room(width: int, height: int, *, unicode: bool) -> None:
    lines = plot(FRONT, [REFERENCE], width, height, "accuracy", unicode=unicode)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert unicode or "".join(lines).isascii()


@pytest.mark.parametrize(("width", "height"), [(LEAST_WIDTH - 1, 20), (80, LEAST_HEIGHT - 1), (0, 0), (80, -3)])
def test_where_there_is_no_room_there_is_no_plot(width: int, height: int) -> None:
    assert plot(FRONT, [REFERENCE], width, height, "accuracy") == []


@pytest.mark.parametrize(
    "points",
    [
        [Point(1.0, 0.5, "a")],
        [Point(1.0, 0.0, "a")],
        [Point(1.0, -3.0, "a"), Point(1.0, -3.0, "b")],
        [Point(1e-6, 0.1, "a"), Point(1e6, 1e9, "b")],
        [Point(0.0, 0.5, "a"), Point(1.0, float("nan"), "b"), Point(1.0, 0.5, "c")],
    ],
)
def test_odd_fronts_are_drawn_too(points: list[Point]) -> None:
    lines = plot(points, [], 60, 12, "score")
    assert len(lines) == 12
    assert any(points[-1].glyph in line for line in lines)


def test_a_front_hides_what_shares_its_place() -> None:
    lines = plot([Point(1.0, 0.5, "f")], [Point(1.0, 0.5, "o")], 60, 12, "score")
    text = "\n".join(lines[1:-2])
    assert "f" in text
    assert "o" not in text
