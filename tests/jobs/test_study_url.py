"""A job's study at a URL: who gets its password, and where that never stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_controller import REFUSE, STUDY, WELL

from autoopt.cli import main
from autoopt.errors import JobError, StudyError, TaskError, UserError
from autoopt.jobfolder import JobStatus
from autoopt.jobs import go_on, job, resume, search, submit
from autoopt.jobs.stored import stored_rows
from autoopt.search.storage import open_storage
from autoopt.search.study_url import VARIABLE, parse_study
from autoopt.testing.postgres import PostgresServer

SOON_S = 60.0


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (VARIABLE, "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


def trials(database: str, name: str) -> int:
    storage = open_storage(parse_study(database), Path("unused"), writable=False)
    return storage.get_n_trials(storage.get_study_id_from_name(name))


def files_with(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")]


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_background_job_gets_the_password_and_nobody_else_sees_it(
    task: str, postgres: PostgresServer, database: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "variable":
        monkeypatch.setenv(VARIABLE, database)
    submitted = submit(task, name="a", seed=STUDY, study=database if by == "argument" else None)
    assert submitted.wait(SOON_S) is JobStatus.DONE, list(submitted.logs())
    log = "\n".join(submitted.logs())
    assert "variable False" in log, "what it starts in turn does not inherit it"
    assert "autoopt.jobs.run:main" in log or "autoopt.jobs.run import main" in log
    assert submitted.spec.study == parse_study(database).shown
    assert "***" in (submitted.spec.study or "")
    assert files_with(postgres.password, submitted.path) == []
    assert postgres.password not in repr(submitted)
    assert trials(database, "autoopt/a") == 1


def test_a_search_here_gets_it_too(task: str, postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    result = search(task, name="a", seed=STUDY, study=database)
    assert result.status is JobStatus.DONE
    assert files_with(postgres.password, result.folder) == []
    assert trials(database, "autoopt/a") == 1


def test_without_a_url_the_study_is_in_the_jobs_folder(
    task: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit(task, name="a", seed=WELL).spec.study is None
    monkeypatch.setenv(VARIABLE, database)
    assert submit(task, name="b", seed=WELL, study="journal").spec.study is None
    for each in ("a", "b"):
        job(each).wait(SOON_S)


BRINGERS: dict[str, Callable[[pytest.MonkeyPatch, str, PostgresServer], str | None]] = {
    "argument": lambda _, database, __: database,
    "variable": lambda monkeypatch, database, _: monkeypatch.setenv(VARIABLE, database),
    "libpq": lambda monkeypatch, _, postgres: monkeypatch.setenv("PGPASSWORD", postgres.password),
}


@pytest.mark.parametrize("bring", BRINGERS)
def test_whoever_resumes_or_reads_brings_the_password_again(
    task: str, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch, bring: str
) -> None:
    search(task, name="a", budget="1m", seed=STUDY, study=database)
    for act in (
        lambda: stored_rows(job("a").folder),
        lambda: go_on("a", budget="2m"),
        lambda: resume("a", budget="2m"),
    ):
        with pytest.raises(
            StudyError, match=r"no password supplied; .*--study, \$AUTOOPT_STUDY, \$PGPASSWORD or ~/.pgpass"
        ):
            act()
    assert job("a").status() is JobStatus.DONE, "nothing was begun"
    given = BRINGERS[bring](monkeypatch, database, postgres)
    assert stored_rows(job("a").folder, given) == []
    assert go_on("a", budget="2m", study=given).status is JobStatus.DONE
    assert resume("a", budget="3m", study=given).wait(SOON_S) is JobStatus.DONE
    assert trials(database, "autoopt/a") == 3


def test_a_study_that_cannot_be_used_leaves_no_job(
    task: str, postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    wrong = database.replace(postgres.password, "wr0ng")
    for begin in (submit, search):
        with pytest.raises(StudyError, match="password authentication failed") as refused:
            begin(task, name="a", seed=WELL, study=wrong)
        assert "wr0ng" not in str(refused.value)
        with pytest.raises(UserError, match="allowed are"):
            begin(task, name="a", seed=WELL, study="redis://u:wr0ng@h/1")
    assert not list((tmp_path / "results").glob("*"))


def test_two_jobs_of_one_name_do_not_share_a_study(task: str, database: str, tmp_path: Path) -> None:
    search(task, name="a", seed=STUDY, study=database)
    with pytest.raises(JobError, match=r"has a study of a job 'a' already.*--name"):
        search(task, name="a", results=tmp_path / "elsewhere", seed=STUDY, study=database)
    assert not list((tmp_path / "elsewhere").glob("*"))


def test_a_search_that_is_refused_later_leaves_its_name_free_in_the_database(task: str, database: str) -> None:
    with pytest.raises(TaskError, match="no good"):
        search(task, name="a", seed=REFUSE, study=database)
    assert search(task, name="a", seed=STUDY, study=database).status is JobStatus.DONE


def test_a_study_does_not_move(task: str, database: str) -> None:
    search(task, name="a", budget="1m", seed=WELL)
    with pytest.raises(UserError, match="this job's study is in the job's folder"):
        go_on("a", budget="2m", study=database)


def test_the_shell_takes_the_url_and_shows_it_masked(
    task: str, database: str, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", task, "--name", "a", "--budget", "1m", "--seed", str(STUDY)]
    assert main([*arguments, "--study", database]) == 0
    assert main(["resume", "a", "--budget", "2m", "--study", database]) == 0
    assert main(["submit", *arguments[1:3], "b", "--seed", str(STUDY), "--study", database]) == 0
    assert main(["watch", "b", "--study", database]) == 0
    assert main(["resume", "b", "--background", "--budget", "20m", "--study", database]) == 0
    assert job("b").wait(SOON_S) is JobStatus.DONE
    assert main(["status", "a", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out[told.out.rindex('{\n  "job"') :])["spec"]["study"] == parse_study(database).shown
    assert main(["resume", "a", "--budget", "3m"]) == 2
    assert main(["report", "a"]) == 2
    assert main(["run", *arguments[1:3], "c", "--study", "postgresql://u:s3cret@h"]) == 2
    refused = capsys.readouterr()
    assert "no password supplied" in refused.err
    assert "names no database" in refused.err
    everything = told.out + told.err + refused.out + refused.err
    assert postgres.password not in everything
    assert "s3cret" not in everything
    assert trials(database, "autoopt/a") == 2
    assert trials(database, "autoopt/b") == 2
