import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_controller import BUG, ENTRY, REFUSE, UNTIL_STOPPED, WELL

from autoopt.cli import main
from autoopt.cli.live import summary
from autoopt.cli.output import duration, print_table
from autoopt.jobfolder import JobFolder, JobStatus, Progress
from autoopt.jobs import job

Captured = pytest.CaptureFixture[str]
SOON_S = 20.0
# `autoopt` with the small controller in a process of its own.
SHELL = (
    "from autoopt.jobs import execute; execute.CONTROLLER = 'fake_controller:run_job'\n"
    "from autoopt.cli import main; raise SystemExit(main())"
)
COMMANDS = [
    "run",
    "submit",
    "resume",
    "jobs",
    "status",
    "watch",
    "cancel",
    "report",
    "pick",
    "export",
    "verify",
    "spaces",
    "engines",
]


def run(name: str = "a", seed: int = WELL) -> list[str]:
    return ["run", "my_task.py:task", "--name", name, "--seed", str(seed)]


def shell(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SHELL, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_run_shows_its_progress_as_lines_where_there_is_no_terminal(capsys: Captured) -> None:
    assert main(run()) == 0
    told = capsys.readouterr()
    assert "job " in told.err
    assert "searching: 0 decided · front 1 · best 9.25×" in told.err
    assert "Ray dashboard: http://127.0.0.1:8265" in told.err
    assert told.out.splitlines()[-1].endswith("results/a/report.html")


def test_run_prints_json_on_stdout_and_nothing_else(capsys: Captured) -> None:
    assert main([*run(), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["job"], data["status"], data["progress"]["measured"]) == ("a", "done", 2)


def test_ctrl_c_stops_a_run_and_says_how_to_resume() -> None:
    process = shell(*run(seed=UNTIL_STOPPED))
    folder = JobFolder(Path("results/a").absolute())
    ends = time.monotonic() + SOON_S
    while not folder.study_path.exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 130, err
    assert out.splitlines()[-1] == f"go on with: autoopt resume {folder.path}"
    assert "Traceback" not in err
    assert folder.state().status is JobStatus.INTERRUPTED


def test_run_moves_a_picture_on_a_terminal() -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SHELL, *run()], stderr=end, stdout=subprocess.PIPE, text=True)
    os.close(end)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux says EIO when the other end is closed
        while part := os.read(terminal, 4096):
            drawn += part
    process.communicate(timeout=SOON_S)
    os.close(terminal)
    assert process.returncode == 0
    assert "front so far" in drawn.decode()
    assert "network unchanged" in drawn.decode()


@pytest.mark.parametrize(
    "arguments", [["run", "nowhere.py"], ["run", "my_task.py", "--space", "quik"], run(seed=REFUSE)]
)
def test_what_cannot_be_used_is_one_clear_message_and_exit_code_2(arguments: list[str]) -> None:
    process = shell(*arguments)
    out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 2
    assert out == ""
    assert "autoopt: " in err
    assert "Traceback" not in err


def test_the_traceback_is_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("AUTOOPT_TRACEBACK", "1")
    assert main(["status", "nope"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_that_names_it_and_where_the_story_is(capsys: Captured) -> None:
    assert main(run(seed=BUG)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("autoopt: AttributeError: ")
    story = Path(last.partition("the whole story is in ")[2].rstrip(")"))
    assert "fake_controller.py" in story.read_text()
    story.unlink()


def test_an_unknown_job_lists_those_there_are(capsys: Captured) -> None:
    main(run("a"))
    main(run("b"))
    for command in (["status", "c"], ["watch", "c"], ["resume", "c"], ["cancel", "c"], ["report", "c"], ["pick", "c"]):
        assert main(command) == 2
        assert "Jobs there: a, b" in capsys.readouterr().err


def test_a_submitted_job_is_watched_to_its_end(capsys: Captured) -> None:
    assert main(["submit", "my_task.py", "--name", "a", "--seed", str(WELL), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"] == "a"
    assert main(["watch", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("report.html")
    assert main(["status", "a"]) == 0
    told = capsys.readouterr().out
    assert ": done" in told
    assert "best so far: network unchanged: 9.25×, accuracy 0.93" in told


def test_a_job_is_cancelled_and_resumed(capsys: Captured) -> None:
    main(["submit", "my_task.py", "--name", "a", "--seed", str(UNTIL_STOPPED)])
    running = job("a")
    while running.progress().phase != "searching":
        time.sleep(0.02)
    assert main(["cancel", "a"]) == 0
    assert ": cancelled" in capsys.readouterr().out
    assert main(["status", "a"]) == 0
    assert f"autoopt resume {running.path}" in capsys.readouterr().out
    spec = running.folder.spec_path
    spec.write_text(spec.read_text().replace('"seed": 2', '"seed": 0'))
    assert main(["resume", "a"]) == 0
    assert running.status() is JobStatus.DONE


def test_leaving_a_watch_leaves_the_job_running() -> None:
    main(["submit", "my_task.py", "--name", "a", "--seed", str(UNTIL_STOPPED)])
    process = shell("watch", "a")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert "goes on" in err
    assert not job("a").status().ended
    job("a").cancel()


def test_jobs_are_listed_with_what_they_have_done(capsys: Captured) -> None:
    main(run("a"))
    capsys.readouterr()
    for command in (["jobs"], ["status"]):
        assert main(command) == 0
        header, row = capsys.readouterr().out.splitlines()
        assert header.split() == ["JOB", "STATUS", "BEGUN", "PROGRESS"]
        assert row.split()[:2] == ["a", "done"]
    assert main(["jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"]["progress"]["best"]["speedup"] == ENTRY.speedup


def test_a_job_that_cannot_be_read_hides_no_other(tmp_path: Path, capsys: Captured) -> None:
    main(run("a"))
    (tmp_path / "results" / "b").mkdir()
    for name in ("job.json", "state.json"):
        (tmp_path / "results" / "b" / name).write_text("{")
    capsys.readouterr()
    assert main(["jobs"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["b", "unreadable"] in rows
    assert ["a", "done"] in rows
    assert main(["jobs", "--json"]) == 0
    damaged, well = json.loads(capsys.readouterr().out)
    assert (damaged["job"], damaged["spec"], damaged["state"]) == ("b", None, None)
    assert "is damaged" in damaged["message"]
    assert (well["job"], well["state"]["status"]) == ("a", "done")


def test_no_jobs_is_said_with_what_to_do(capsys: Captured) -> None:
    assert main(["jobs", "--results", "nowhere"]) == 0
    assert "autoopt run TASK" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pick", "report", "export"])
def test_a_job_without_a_front_says_so(command: str, capsys: Captured) -> None:
    main(run("a"))
    capsys.readouterr()
    assert main([command, "a", *(["-o", "out"] if command == "export" else [])]) == 2
    assert "has no" in capsys.readouterr().err


def test_every_shipped_space_is_listed(capsys: Captured) -> None:
    assert main(["spaces", "--json"]) == 0
    assert {"quick", "cpu", "full"} <= {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert main(["spaces"]) == 0
    assert capsys.readouterr().out.startswith("SPACE")


def test_every_engine_is_listed_with_what_it_executes_or_why_not(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["engines", "--json"]) == 0
    found = {row["engine"]: row for row in json.loads(capsys.readouterr().out)}
    assert "int8" in found["onnxruntime"]["precisions"]["cpu"]
    assert not found["openvino"]["available"]
    assert main(["engines"]) == 0
    assert "mend it with: pip install 'autoopt[openvino]'" in " ".join(capsys.readouterr().out.split())


def test_verify_refuses_what_is_no_bundle(capsys: Captured, tmp_path: Path) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "is not a bundle" in capsys.readouterr().err


def test_the_version_is_printed() -> None:
    done = subprocess.run([sys.executable, "-m", "autoopt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("autoopt ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


def test_an_unknown_command_is_exit_code_2_with_the_allowed_ones(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["frobnicate"])
    assert ended.value.code == 2
    assert "'verify'" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom autoopt.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'ray', 'optuna', 'rich', 'pydantic', 'yaml', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_is_no_error(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "autoopt", "spaces"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_ended_badly_says_so_though_nobody_reads_its_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "import argparse\nfrom autoopt import cli\nraise SystemExit(cli._run(argparse.Namespace(run=lambda _: print() or 1)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_summary_counts_the_outcomes_and_the_time() -> None:
    progress = Progress("searching", 7, 3, 2, (ENTRY,) * 4, ENTRY, "accuracy", seconds_used=40, seconds_left=200)
    assert summary(progress) == (
        "searching: 12 decided (7 measured, 3 eliminated, 2 failed) · front 4 · best 9.25× · 40 s, 3 min 20 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7260, "2 h 1 min")]
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_table_wraps_its_last_column(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    print_table(("a", "long"), [("x", "word " * 20)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 50 for line in lines)
    assert lines[2].startswith("   word")
