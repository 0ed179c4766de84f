"""What cannot be used is refused in one sentence, with exit code 2, before anything is started."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoopt.cli import main
from autoopt.cluster import joining
from autoopt.cluster.joining import Versions
from autoopt.errors import ClusterError
from autoopt.testing.clusters import Place, TwoNodes, free_ports

NO_CORE = max(os.sched_getaffinity(0)) + 1
MANY = len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of a command that is refused; one sentence."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("autoopt: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hardware", "cuda"], "'cuda' cannot name a kind of hardware"),
        (["--hardware", "big box"], "'big box' cannot name a kind of hardware"),
        (["--cores", "zero"], "cores 'zero' cannot be read"),
        (["--cores", "3-1"], "cores '3-1' cannot be read"),
        (["--cores", str(NO_CORE)], f"there is no core {NO_CORE} for this process"),
        (["--lane-cores", str(MANY)], f"--lane-cores must be between 1 and {MANY - 1}"),
        (["--lane-cores", "0"], "--lane-cores must be between"),
        (["--no-lane", "--lane-cores", "1"], "exclude each other"),
        (["--trainers", "-1"], "--trainers must be 0 or more"),
        (["--builders", "0"], "--builders must be 1 or more"),
        (["--host", "192.0.2.254"], "is no address of this machine"),
        (["--host", "no.such.host.invalid"], "has no address"),
        (["--host", "0.0.0.0"], "is no address of this machine"),
        (["--port", "80"], "--port must be between 1024 and 65535"),
        (["--port", "7000", "--dashboard-port", "7000"], "are both 7000"),
        (["--join", "http://127.0.0.1:8265"], "is not the address of a head; write host:port"),
        (["--join", "somewhere"], "is not the address of a head"),
        (["--join", "192.0.2.254:6379"], "must be reached from there: give --host"),
        (["--join", "127.0.0.1:6379", "--host", "192.0.2.2"], "reached from its own machine only"),
    ],
)
def test_a_node_that_cannot_be(
    home: Path, place: Place, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, "cluster", "up", *arguments, "--temp-dir", str(place.clusters))
    assert not (home / ".ray").exists()


def test_a_port_that_is_taken(home: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for option in ("--port", "--dashboard-port"):
            said = refused(capsys, "cluster", "up", option, str(port), "--temp-dir", str(place.clusters))
            assert f"port {port} of 127.0.0.1 is taken" in said
            assert option in said


def test_a_folder_that_cannot_hold_sockets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "cluster", "up", "--temp-dir", str(home / ("long" * 20)))
    assert "too long for Ray's sockets" in said


def test_a_head_that_is_not_there(home: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a token")
    (port,) = free_ports(1)
    said = refused(capsys, "cluster", "up", "--join", f"127.0.0.1:{port}", "--temp-dir", str(place.clusters))
    assert f"nothing answers at 127.0.0.1:{port}" in said
    assert place.records() == []


def test_joining_without_the_heads_token(home: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "cluster", "up", "--join", "127.0.0.1:6379", "--temp-dir", str(place.clusters))
    assert "a node joins with the head's token, and there is none" in said
    assert not (home / ".ray" / "auth_token").exists()


def test_joining_with_another_token(
    cluster: TwoNodes, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    said = refused(capsys, "cluster", "up", "--join", cluster.head["address"], "--temp-dir", str(place.clusters))
    assert "does not accept this machine's token" in said
    assert place.records() == []


def test_joining_at_the_dashboards_port(
    client: TwoNodes, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ANSWER_S", 4.0)
    at = client.address.removeprefix("http://")
    assert "is no head of a Ray cluster" in refused(
        capsys, "cluster", "up", "--join", at, "--temp-dir", str(place.clusters)
    )


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (Versions("2.59.1", "3.11.7", "0.1.0"), "has Ray 2.59.1, this machine has 2.60.0"),
        (Versions("2.60.0", "3.12.1", "0.1.0"), "has Python 3.12.1, this machine has 3.11.7"),
        (Versions("2.60.0", "3.11.7", "0.0.9"), "has autoopt 0.0.9, this machine has 0.1.0"),
    ],
)
def test_a_head_of_other_versions(theirs: Versions, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        joining.check_versions("10.0.0.1:6379", theirs, Versions("2.60.0", "3.11.7", "0.1.0"))


def test_a_token_that_others_can_read_and_that_is_not_ours_to_close(
    home: Path, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = home / "token"
    token.write_text("a token")
    token.chmod(0o644)
    try:
        os.chown(token, 12345, -1)
    except PermissionError:
        pytest.skip("only root may give a file away")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    port, dashboard = map(str, free_ports(2))
    ports = ("--port", port, "--dashboard-port", dashboard)
    said = refused(capsys, "cluster", "up", *ports, "--temp-dir", str(place.clusters))
    assert "can be read by other users" in said
    assert place.records() == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", "is not the address of a cluster; write http://host:8265"),
        ("http://127.0.0.1:1", "no cluster answers at http://127.0.0.1:1 "),
        ("http://no.such.host.invalid:8265", "no cluster answers at http://no.such.host.invalid:8265"),
    ],
)
def test_a_cluster_that_is_not_there(
    home: Path, capsys: pytest.CaptureFixture[str], address: str, message: str
) -> None:
    assert message in refused(capsys, "cluster", "status", "--address", address)


def test_a_cluster_that_nobody_named(home: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "cluster", "status", "--temp-dir", str(place.clusters))
    assert "no head was started here; name the cluster" in said


def test_without_a_token_and_with_a_wrong_one(
    home: Path, cluster: TwoNodes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wants a token, and there is none here" in refused(capsys, "cluster", "status", "--address", cluster.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    assert "does not accept this machine's token" in refused(capsys, "cluster", "status", "--address", cluster.address)


def test_the_heads_own_port_instead_of_the_dashboards(client: TwoNodes, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "cluster", "status", "--address", client.head["address"])
    assert "is not the dashboard of a Ray cluster" in said


@contextmanager
def server(answer: bytes, status: int = 200) -> Iterator[str]:
    """Whatever else may answer at an address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (json.dumps({"version": "4", "ray_version": "2.59.1"}).encode(), 200, "runs Ray 2.59.1, this machine has"),
        (b"<html>", 200, "is not the dashboard of a Ray cluster"),
        (b"{}", 200, "is not the dashboard of a Ray cluster"),
        (b"", 404, "answers with the HTTP status 404"),
    ],
)
def test_a_cluster_of_another_ray_and_what_is_none(
    home: Path, capsys: pytest.CaptureFixture[str], answer: bytes, status: int, message: str
) -> None:
    with server(answer, status) as address:
        assert message in refused(capsys, "cluster", "status", "--address", address)


def test_a_node_that_was_not_started_here(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "cluster", "down", "--node", "ffffff", "--temp-dir", str(place.clusters))
    assert "no node 'ffffff' was started here" in said
