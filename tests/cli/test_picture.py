"""What stands on the terminal while a job runs, at several sizes, with and without Unicode."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from autoopt.cli.picture import Picture
from autoopt.jobfolder import FrontEntry, Progress
from autoopt.records.job import mark

JOB = "digits-tiny-20260101-120000-123"


def entry(number: int, speedup: float, score: float, summary: str = "network unchanged | pytorch fp32") -> FrontEntry:
    return FrontEntry(f"{number:012x}", summary, speedup, 0.5 / speedup, score, 0.94 - score)


FAST = entry(1, 12.9, 0.918, "student (depth 0.5); static quantization | onnxruntime int8, 1 thread")
GOOD = entry(2, 11.5, 0.933, "static quantization (calibration 64) | openvino int8, 1 thread")
PLAIN = entry(3, 1.7, 0.94, "network unchanged | onnxruntime fp32, 1 thread")
REFERENCE = entry(4, 1.0, 0.94)
PROGRESS = Progress(
    phase="searching",
    measured=7,
    eliminated=3,
    failed=1,
    front=(FAST, GOOD, PLAIN),
    best=GOOD,
    metric="accuracy",
    seconds_used=200,
    seconds_left=600,
    dashboard="http://127.0.0.1:8265",
    job=JOB,
    running=("train student d=0.5 to 1.2 epochs", "measure openvino int8, 1 thread"),
    reference=REFERENCE,
    goal_met=True,
)


class _Terminal(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override] # read-only in StringIO, too
        return self._encoding


def drawn(progress: Progress, width: int = 100, height: int = 40, encoding: str = "utf-8") -> list[str]:
    terminal = _Terminal(encoding)
    Console(file=terminal, width=width, height=height).print(Picture(progress))
    return terminal.getvalue().splitlines()


def text(*arguments: object) -> str:
    return "\n".join(drawn(*arguments))  # type: ignore[arg-type] # passed on


def test_it_says_what_is_decided_how_much_time_is_left_and_where_the_dashboard_is() -> None:
    lines = drawn(PROGRESS)
    assert lines[0] == "searching: 11 decided (7 measured, 3 eliminated, 1 failed) · best 11.5×"
    assert lines[1].endswith("3 min 20 s used, 10 min 0 s left")
    assert (lines[1].count("█"), lines[1].count("░")) == (6, 18)
    assert lines[2] == f"Ray dashboard: http://127.0.0.1:8265 · job {mark(JOB)}"


def test_it_says_that_nothing_meets_the_goal_yet() -> None:
    assert "none meets the goal yet" in drawn(replace(PROGRESS, goal_met=False))[0]


def test_the_front_is_plotted_with_the_recommended_config_and_the_reference_marked() -> None:
    plotted = [line for line in drawn(PROGRESS) if "│" in line]
    inside = "".join(line.partition("│")[2] for line in plotted)
    assert (inside.count("●"), inside.count("★"), inside.count("◆")) == (2, 1, 1)


def test_the_front_is_listed_engine_first_with_the_recommended_config_starred() -> None:
    starred = [line for line in drawn(PROGRESS) if line.startswith("★")]
    assert len(starred) == 1
    assert "11.5×" in starred[0]
    assert "openvino int8, 1 thread | static quantization" in starred[0]


def test_it_says_what_runs() -> None:
    lines = drawn(PROGRESS)
    assert lines[-2:] == ["now: train student d=0.5 to 1.2 epochs", "     measure openvino int8, 1 thread"]
    many = drawn(replace(PROGRESS, running=tuple(f"build {number}" for number in range(9))))
    assert many[-1] == "     … and 6 more"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [20, 40, 80, 132])
@pytest.mark.parametrize("height", [2, 5, 8, 12, 24, 60])
def test_it_fits_the_terminal(width: int, height: int, encoding: str) -> None:
    crowd = tuple(entry(number, 20 - number, 0.9 + number / 500) for number in range(15))
    for progress in (PROGRESS, replace(PROGRESS, front=crowd, best=crowd[9]), Progress(), replace(PROGRESS, front=())):
        lines = drawn(progress, width, height, encoding)
        assert len(lines) < height
        assert max(map(len, lines)) <= width


def test_a_small_terminal_has_the_table_and_no_plot() -> None:
    lines = drawn(PROGRESS, 80, 13)
    assert not any("│" in line for line in lines)
    assert sum("int8, 1 thread |" in line for line in lines) == 2
    assert any("│" in line for line in drawn(PROGRESS, 80, 24)), "the usual one has both"


def test_of_a_long_front_the_recommended_config_is_listed_in_any_case() -> None:
    crowd = tuple(entry(number, 30 - number, 0.9 + number / 500) for number in range(25))
    lines = drawn(replace(PROGRESS, front=crowd, best=crowd[20]), 80, 40)
    assert sum(line.startswith("★") for line in lines) == 1
    assert any(line.startswith("… and ") for line in lines)


def test_a_terminal_with_ascii_only_gets_ascii_only() -> None:
    lines = drawn(PROGRESS, 80, 30, "ascii")
    assert "\n".join(lines).isascii()
    assert "?" not in "\n".join(lines), "everything of ours has something that stands for it"
    assert any(line.startswith("*     11.5x") for line in lines)
    inside = "".join(line.partition("|")[2] for line in lines if "|" in line and "onnx" not in line)
    assert "R" in inside


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    odd = replace(GOOD, summary="[bold]odd[/] | engine")
    shown = drawn(replace(PROGRESS, front=(odd,), best=odd, metric="[red]m", running=("[b]x",)), 140, 40)
    for part in ("[bold]odd[/]", "[red]m", "[b]x"):
        assert any(part in line for line in shown)


def test_without_anything_decided_there_is_a_head_and_nothing_else() -> None:
    assert drawn(Progress()) == ["starting: 0 decided", "0 s used"]


def test_a_recommended_config_off_the_front_is_drawn_and_listed_in_its_place() -> None:
    off = entry(5, 11.0, 0.931, "low rank | openvino int8, 1 thread")
    lines = drawn(replace(PROGRESS, best=off))
    starred = [line for line in lines if line.startswith("★")]
    assert len(starred) == 1
    assert "low rank" in starred[0]
    assert (
        lines.index(starred[0]) == next(i for i, line in enumerate(lines) if "11.5×" in line and "ms" not in line) + 1
    )
    assert sum("★" in line.partition("│")[2] for line in lines) == 1
