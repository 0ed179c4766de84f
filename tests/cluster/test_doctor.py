"""What the doctor finds: on a cluster that is well, and where something is not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoopt.cli import main
from autoopt.cluster import machine, remote
from autoopt.cluster.checks import Check, Verdict
from autoopt.cluster.examine import Examination, Examined, NodeAnswer
from autoopt.cluster.host import Host
from autoopt.cluster.joining import Versions
from autoopt.cluster.look import Look
from autoopt.cluster.nodes import NodeView, Slots
from autoopt.cluster.stores import Answer, leave_mark, remove_mark, try_store, try_study
from autoopt.records.environment import Environment
from autoopt.testing.clusters import Place, TwoNodes
from autoopt.testing.postgres import MissingServerError, postgres_server
from autoopt.workers.node import Cores

MINE = Versions("2.60.0", "3.11.7", "0.1.0")
CPU = Environment("Some CPU", 4, 8 << 30, ("avx2",), "Linux", "3.11.7", {"torch": "2.13.0"})
LOOK = Look(CPU, {"onnxruntime": "1.31.1"}, None, {})
HOST = Host(Cores((0, 1), (2, 3)), (), {"/tmp": 50_000_000_000}, None)
WELL = Examined(MINE, HOST, LOOK, store=Answer(None, 0.1))


def test_every_node_of_a_real_cluster_is_examined(cluster: TwoNodes, doctored: Any) -> None:
    assert doctored.code == 1
    problems = {what for what, check in doctored.checks.items() if check["verdict"] == "problem"}
    assert problems == {"here: study", "head: study"}, doctored.printed
    for node in (cluster.head, cluster.edge):
        for what in ("packages", "engines", "cores", "disks", "token", "clock", "listens on", "store"):
            assert f"node {node['id']}: {what}" in doctored.checks
    assert doctored.checks[f"node {cluster.edge['id']}: listens on"]["found"] == "loopback only"
    assert doctored.checks["lanes"]["found"] == "2 of 2 free"


def test_a_study_that_does_not_answer_is_told_from_here_and_from_the_head(doctored: Any) -> None:
    for where in ("here", "head"):
        assert (
            "postgresql+psycopg://user:***@127.0.0.1:1/studies cannot be used"
            in doctored.checks[f"{where}: study"]["found"]
        )


def test_this_machine_alone(place: Place) -> None:
    (place.clusters / "store").write_text("a file where a folder should be")
    done = place.run("doctor", "--json", "--store", str(place.clusters / "store"))
    found = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert found["here: store"]["verdict"] == "problem"
    assert "cannot be used" in found["here: store"]["found"]
    assert found["here: engines"]["verdict"] == "ok"
    assert {check["verdict"] for what, check in found.items() if what != "here: store"} <= {"ok", "warning"}


def test_a_cluster_that_does_not_answer_is_a_problem_and_an_address_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoopt.cluster.doctor.look", lambda: LOOK)
    assert main(["doctor", "--address", "http://127.0.0.1:1", "--temp-dir", str(place.clusters)]) == 1
    assert "no cluster answers at http://127.0.0.1:1" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor", "--address", "what?", "--temp-dir", str(place.clusters)]) == 2


def test_a_study_in_postgresql_is_made_and_removed_and_the_servers_clock_is_read() -> None:
    try:
        with postgres_server() as server:
            url = server.new_database()
            found, refused = try_study(url), try_study(url.replace(server.password, "wrong7password"))
            left = server.execute("SELECT count(*) FROM studies", database=url.rpartition("/")[2])
    except MissingServerError as missing:
        pytest.skip(f"NOT TESTED: {missing}")
    assert found.error is None
    assert found.clock_s is not None
    assert abs(found.clock_s) < 2
    assert left == [(0,)]
    assert refused.error is not None
    assert "wrong7password" not in refused.error


def test_a_store_that_is_another_one_than_the_heads_is_told(tmp_path: Path) -> None:
    heads, ours = str(tmp_path / "heads"), str(tmp_path / "ours")
    mark = leave_mark(heads)
    assert try_store(heads, mark).error is None
    assert "is another one here than on the head" in (try_store(ours, mark).error or "")
    remove_mark(heads, mark)
    assert "another one" in (try_store(heads, mark).error or "")


def test_a_light_client_is_told_what_it_cannot_try_and_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "optuna" or name == "autoopt.search.storage"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = remote.tried("here: study", try_study("sqlite:////nowhere/study.db"))
    assert (found.verdict, found.found) == (Verdict.WARNING, "not tried: optuna is not installed")
    none = replace(LOOK, engines={})
    verdicts = [machine.check_engines("here: engines", none, needed=needed).verdict for needed in (False, True)]
    assert verdicts == [Verdict.OK, Verdict.PROBLEM]


def view(name: str, kind: str = "default", *, lane: bool = True, address: str = "127.0.0.1") -> NodeView:
    slots = {"trainer": Slots(4, 0), "builder": Slots(4, 0)} | ({"lane": Slots(1, 0)} if lane else {})
    return NodeView(
        id=f"id-{name}", name=name, address=address, host="machine", head=name == "a", alive=True, trouble="", kind=kind, cpu="",
        cuda="", autoopt="0.1.0", slots=slots,
    )  # fmt: skip


def judged(*nodes: tuple[NodeView, Examined | None], clock_s: float = 0.0) -> dict[str, Check]:
    answers = {view.id: NodeAnswer(said, clock_s) for view, said in nodes}
    found = remote.judge(Examination(answers, None), [view for view, _ in nodes], MINE)
    return {check.what: check for check in found}


def test_two_nodes_that_are_alike_are_well() -> None:
    found = judged((view("a"), WELL), (view("b"), WELL))
    assert {check.verdict for check in found.values()} == {Verdict.OK}
    assert found["kind default"].found == "2 nodes, alike"


@pytest.mark.parametrize(
    ("other", "what", "told"),
    [
        ({"look": replace(LOOK, environment=replace(CPU, cpu="Another CPU"))}, "kind default", "processor"),
        (
            {"look": replace(LOOK, environment=replace(CPU, packages={"torch": "2.12.0"}))},
            "kind default",
            "torch: 2.13.0 here, 2.12.0 there",
        ),
        (
            {"look": replace(LOOK, engines={"onnxruntime": "1.30.0"})},
            "kind default",
            "engines: onnxruntime 1.31.1 here",
        ),
        ({"host": replace(HOST, cores=Cores((0,), (1, 2, 3)))}, "kind default", "cores of the lane: 2 here, 1 there"),
        ({"versions": replace(MINE, ray="2.59.1")}, "node b: packages", "Ray 2.59.1 there, 2.60.0 here"),
        ({"versions": replace(MINE, autoopt="0.0.9")}, "node b: packages", "autoopt 0.0.9 there"),
        ({"versions": replace(MINE, python="3.12.1")}, "node b: packages", "Python 3.12 there, 3.11 here"),
        (
            {"look": replace(LOOK, engines={}, refused={"openvino": "not installed"})},
            "node b: engines",
            "no engine can be used",
        ),
        ({"look": None, "trouble": "an engine crashed"}, "node b: engines", "an engine crashed"),
        ({"host": replace(HOST, missing_cores=(3,))}, "node b: cores", "core 3 may not be used"),
        ({"host": replace(HOST, free_bytes={"/tmp": 1_000})}, "node b: disks", "1e-06 GB free"),
        ({"host": replace(HOST, open_token="/root/.ray/auth_token")}, "node b: token", "other users can read"),
        ({"host": replace(HOST, listens=("0.0.0.0",))}, "node b: listens on", "all interfaces"),
        ({"store": Answer("the store /s cannot be used: no rights", 0.1)}, "node b: store", "no rights"),
    ],
)
def test_what_is_wrong_with_one_node_is_a_problem_with_its_name(other: dict[str, Any], what: str, told: str) -> None:
    found = judged((view("a"), WELL), (view("b"), replace(WELL, **other)))
    assert found[what].verdict is Verdict.PROBLEM
    assert told in found[what].found


def test_different_kinds_may_differ() -> None:
    other = replace(WELL, look=replace(LOOK, environment=replace(CPU, cpu="Another CPU")))
    found = judged((view("a"), WELL), (view("b", "edge"), other))
    assert {check.verdict for check in found.values()} == {Verdict.OK}


def test_a_node_that_does_not_answer_is_a_problem() -> None:
    assert judged((view("a"), WELL), (view("b"), None))["node b"].verdict is Verdict.PROBLEM


def test_clocks_may_differ_by_two_seconds() -> None:
    near, far = (judged((view("a"), WELL), clock_s=seconds)["node a: clock"] for seconds in (1.9, -2.1))
    assert (near.verdict, far.verdict) == (Verdict.OK, Verdict.PROBLEM)
    assert "2.1 s behind the head's" in far.found


def test_a_kind_without_a_lane_measures_nothing() -> None:
    found = judged((view("a", lane=False), WELL))
    assert found["kind default"].verdict is Verdict.WARNING


def test_a_node_on_a_network_is_told_that_everybody_there_can_reach_it() -> None:
    open_ = replace(WELL, host=replace(HOST, listens=("0.0.0.0", "10.0.0.2")))
    found = judged((view("a", address="10.0.0.2"), open_))["node a: listens on"]
    assert found.verdict is Verdict.WARNING
    assert found.found == "all interfaces, 10.0.0.2"


def test_a_compiler_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert machine.check_compiler().verdict is Verdict.WARNING
    assert "no-such-compiler" in machine.check_compiler().found
