"""What cannot be done is said in one sentence, before anything is sent."""

from __future__ import annotations

from pathlib import Path

from autoopt.testing.service import Service


def refused(service: Service, *arguments: str | Path) -> str:
    ended = service.shell(*arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    said = ended.stderr.strip()
    assert len(said.splitlines()) == 1, said
    return said


def test_hardware_that_nobody_has_is_refused_with_what_there_is(service: Service, space: Path, digits: str) -> None:
    said = refused(service, "submit", digits, "--space", space, "--hardware", "edgy", "--address", service.address)
    assert "edgy" in said
    assert "There is: cpu, edge" in said
    assert "--wait" in said


def test_an_unknown_job_lists_those_there_are(service: Service) -> None:
    said = refused(service, "status", "nobody", "--address", service.address)
    assert "no job 'nobody'" in said
    assert "Jobs there:" in said


def test_an_address_where_nobody_answers(service: Service, digits: str) -> None:
    said = refused(service, "submit", digits, "--address", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in said


def test_an_address_that_is_none(service: Service) -> None:
    said = refused(service, "jobs", "--address", "ftp://somewhere")
    assert "is not the address of a cluster" in said


def test_a_token_that_is_wrong_or_missing(service: Service, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    wrong = service.with_variables(RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"), HOME=str(tmp_path))
    assert "token" in refused(wrong, "jobs", "--address", service.address)


def test_a_store_that_cannot_be_reached(service: Service, space: Path, digits: str) -> None:
    said = refused(
        service, "submit", digits, "--space", space, "--address", service.address, "--store", "s3://no-such-bucket/x?endpoint_url=http://127.0.0.1:9",
    )  # fmt: skip
    assert "store" in said


def test_code_too_large_to_travel(service: Service, space: Path, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("task = None\n")
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(200_000_000)
    said = refused(service, "submit", f"{tmp_path / 'task.py'}:task", "--space", space, "--address", service.address)
    assert "100 MB" in said


def test_a_name_that_a_job_of_the_store_bears(service: Service, space: Path, digits: str) -> None:
    folder = service.store / "jobs" / "of-another-cluster"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    said = refused(service, "submit", digits, "--space", space, "--name", folder.name, "--address", service.address)
    assert f"in the store {service.store} already" in said
    assert "autoopt resume of-another-cluster" in said
    assert "--name" in said


def test_a_job_that_cannot_be_read_hides_no_other(service: Service) -> None:
    for name, spec, state in (("a-damaged", "{}", "{"), ("b-begun-badly", "{}", "")):
        folder = service.store / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(spec)
        if state:
            (folder / "state.json").write_text(state)
    listed = {each["job"]: each for each in service.told("jobs", "--address", service.address)}
    assert listed["a-damaged"]["state"] is None
    assert "state.json of the job 'a-damaged' in the store" in listed["a-damaged"]["message"]
    assert listed["b-begun-badly"]["state"]["status"] == "interrupted"
    shown = service.shell("jobs", "--address", service.address).stdout
    assert "unreadable" in shown
    assert "is damaged" in refused(service, "status", "a-damaged", "--address", service.address)
