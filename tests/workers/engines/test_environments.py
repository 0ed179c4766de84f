"""Engines in Python environments of their own."""

import json
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from autoopt import cli, engine_environments
from autoopt.engine_environments import EngineEnvironment
from autoopt.errors import EngineError, FailureKind, StageError
from autoopt.records import Deployment
from autoopt.records.environment import current
from autoopt.testing.engine_networks import NETWORKS
from autoopt.testing.engines import Workbench
from autoopt.workers import process
from autoopt.workers.engines import Offer, engine, install_missing, offers
from autoopt.workers.measure.handle import served
from autoopt.workers.measure.records import ServedArtifact
from autoopt.workers.measure.requests import RequestQueue
from autoopt.workers.measure.server import Serving
from autoopt.workers.process import Limits, Preload
from autoopt.workers.stages.plan import versions

RESIDUAL = NETWORKS[0]
# What runs there notes it, so that nothing passes by having run here.
SITECUSTOMIZE = """
import sys
with open({log!r}, "a") as file:
    file.write(" ".join(sys.orig_argv[1:]) + "\\n")
"""


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(engine_environments.VARIABLE, str(tmp_path / "engines"))
    engine_environments.version.cache_clear()
    versions.cache_clear()
    yield
    process.shutdown()
    engine_environments.version.cache_clear()
    versions.cache_clear()


@pytest.fixture
def own(tmp_path: Path) -> EngineEnvironment:
    """An environment for onnxruntime that finds this one's packages: pip would take half a minute."""
    folder = engine_environments.home() / "onnxruntime"
    venv.create(folder, symlinks=True)
    made = EngineEnvironment("onnxruntime", folder)
    (made.packages / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (made.packages / "sitecustomize.py").write_text(SITECUSTOMIZE.format(log=str(tmp_path / "ran")))
    (folder / "autoopt.json").write_text("{}")
    return made


def ran(tmp_path: Path) -> str:
    return (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""


def test_an_engine_with_an_environment_of_its_own_is_asked_there(own: EngineEnvironment, tmp_path: Path) -> None:
    offer = offers()["onnxruntime"]
    assert offer.available
    assert "autoopt.workers.engines.tell onnxruntime" in ran(tmp_path)
    assert "openvino" not in ran(tmp_path)


def test_a_broken_environment_is_told_with_the_remedy(own: EngineEnvironment) -> None:
    (own.packages / "here.pth").unlink()  # numpy is gone
    offer = offers()["onnxruntime"]
    assert not offer.available
    assert "its own environment is broken" in str(offer.reason)
    assert "autoopt engines install onnxruntime" in str(offer.remedy)


def test_calls_run_with_its_interpreter_and_without_this_ones_packages(own: EngineEnvironment, tmp_path: Path) -> None:
    expression = "[__import__('sys').executable, __import__('sys').path]"
    executable, path = process.call(
        "builtins:eval", expression, Limits(60), Preload(("numpy",), engine="onnxruntime"), tmp_path / "log"
    )
    assert executable == str(own.python)
    outside = [entry for entry in path if entry == sysconfig.get_path("purelib")]
    assert len(outside) == 1  # by the file here.pth, not by the caller's path
    assert process.call("builtins:eval", "__import__('sys').executable", Limits(60), Preload(), tmp_path / "log") == (
        sys.executable
    )


def test_an_environment_that_is_gone_is_that_stages_failure(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="autoopt engines install onnxruntime") as refused:
        process.call("builtins:eval", "1", Limits(60), Preload(engine="onnxruntime"), tmp_path / "log")
    assert refused.value.kind is FailureKind.UNSUPPORTED


def artifact(folder: Path) -> tuple[ServedArtifact, np.ndarray]:
    deployment = Deployment("onnxruntime", batch=2)
    bench, built = Workbench(folder / "bench"), folder / "artifact"
    built.mkdir()
    each = engine("onnxruntime")
    each.build(bench.source(RESIDUAL, each.formats, deployment), deployment, built)
    return ServedArtifact("onnxruntime", str(built), deployment), bench.reference(RESIDUAL, 2)[0]


def test_an_artifact_is_served_and_timed_there(own: EngineEnvironment, tmp_path: Path) -> None:
    built, expected = artifact(tmp_path)
    queue = RequestQueue.create()
    serving = Serving(built, RESIDUAL.signature, (0,), (RESIDUAL.inputs(2),), queue=queue.descriptors)
    with served(serving) as server:
        assert server.load().load_s > 0
        assert "autoopt.workers.measure.foreign" in ran(tmp_path)
        np.testing.assert_allclose(server.predict(RESIDUAL.inputs(2)), expected, rtol=1e-3, atol=1e-4)
        server.warm(0.01)
        assert server.burst(2, 5).times_ns.shape == (5,)
        assert server.effective().threads == 1
        queue.release()
        queue.close()
        server.attend(bare=False)
        assert server.attended()[0].calls == 1
    queue.discard()


def test_a_server_that_is_killed_there_is_told_as_that(own: EngineEnvironment, tmp_path: Path) -> None:
    built, _ = artifact(tmp_path)
    with served(Serving(built, RESIDUAL.signature, (0,), (RESIDUAL.inputs(2),))) as server:
        server.load()
        server.instances[0].process.kill()
        with pytest.raises(StageError, match="SIGKILL") as refused:
            server.warm(0.01)
    assert refused.value.kind is FailureKind.CRASHED


def test_versions_of_keys_and_records_are_those_of_the_engines_environment(own: EngineEnvironment) -> None:
    info = own.packages / "apache_tvm-9.8.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: apache-tvm\nVersion: 9.8.7\n")
    assert versions(("apache-tvm", "nothing-of-that-name"), "onnxruntime") == {
        "apache-tvm": "9.8.7",
        "nothing-of-that-name": "absent",
    }
    assert own.version("apache-tvm") == "9.8.7"
    assert "numpy" in current().packages


def test_what_has_no_extra_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match=r"extras are .*openvino"):
        engine_environments.install("opnvino")
    assert cli.main(["engines", "install", "opnvino"]) == 2
    assert "extras are" in capsys.readouterr().err
    assert not engine_environments.home().exists()


def test_packages_that_cannot_be_installed_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_environments, "requirements", lambda _: ("no-such-package-for-autoopt==0",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EngineError, match="no-such-package-for-autoopt"):
        engine_environments.install("openvino", say=lambda _: None)
    assert engine_environments.find("openvino") is None
    assert [path.name for path in engine_environments.home().iterdir()] == [".openvino.lock"]


def test_missing_engines_are_installed_where_the_job_may_and_only_what_lacks_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def install(name: str, say: object = print) -> None:
        made.append(name)
        message = f"no index has {name}"
        raise EngineError(message)

    monkeypatch.setattr(engine_environments, "install", install)
    found = {
        "tvm": Offer("tvm", reason="No module named 'tvm'", remedy="pip install 'autoopt[tvm]'"),
        "tensorrt": Offer("tensorrt", reason="there is no NVIDIA GPU", remedy="run on a machine with one"),
        "openvino": Offer("openvino", version="1", precisions={"cpu": ("fp32",)}),
    }
    after = install_missing(dict(found), ["tvm", "tensorrt", "openvino"])
    assert made == ["tvm"]
    assert after["tvm"].reason == "No module named 'tvm'; no index has tvm"
    assert after["tensorrt"] == found["tensorrt"]


def test_what_is_installed_here_or_has_no_packages_of_its_own_gets_no_environment() -> None:
    engine_environments.install_missing("onnxruntime", say=lambda _: None)
    engine_environments.install_missing("pytorch", say=lambda _: None)
    assert not engine_environments.every()


@pytest.mark.slow
def test_an_engine_is_installed_once_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["engines", "install", "onnxruntime"]) == 0
    assert "cpu: fp32" in capsys.readouterr().out
    own = engine_environments.find("onnxruntime")
    assert own is not None
    assert own.version("onnxruntime")
    assert own.version("torch") is None
    assert json.loads((own.folder / "autoopt.json").read_text())["requirements"]
    assert cli.main(["engines", "install", "onnxruntime"]) == 0
    assert "already" in capsys.readouterr().out
    assert cli.main(["engines", "remove", "onnxruntime"]) == 0
    assert engine_environments.find("onnxruntime") is None
