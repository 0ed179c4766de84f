"""The bar that every engine meets, ours and others': a suite of checks to call from pytest.

::

    from autoopt.testing.engines import Case, Workbench, cases, check

    @pytest.fixture(scope="session")
    def workbench(tmp_path_factory):
        return Workbench(tmp_path_factory.mktemp("workbench"))

    @pytest.mark.parametrize("case", cases(MyEngine()), ids=str)
    def test_my_engine_meets_the_bar(case, workbench):
        check(case, workbench)

`cases` asks the engine what it offers on the machine at hand, so the same suite tests BF16 where there is BF16.
Needs the extra ``autoopt[cpu]`` (ONNX Runtime's tools make the quantized networks).
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, canonical_json
from autoopt.records.hardware import DEVICES
from autoopt.testing.engine_networks import NETWORKS, REFUSING, Network
from autoopt.testing.workbench import Workbench
from autoopt.workers.engines.base import Engine, Session
from autoopt.workers.formats import FORMATS
from autoopt.workers.parameters import Parameter, Value

__all__ = [
    "Case",
    "Workbench",
    "cases",
    "check",
    "check_declarations",
    "check_fresh_process",
    "check_refusal",
    "check_unusual",
]

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 0.5, "int8_dynamic": 0.5}
"""The mean absolute difference from the source network's outputs, in units of their standard deviation.

Untrained networks lose much to INT8; outputs that have nothing to do with the right ones are at about 1.1."""


@dataclasses.dataclass(frozen=True)
class Case:
    """An engine, a network and a deployment."""

    engine: Engine
    network: Network
    deployment: Deployment

    def __str__(self) -> str:
        served = self.deployment
        parts = (served.engine, self.network.name, served.precision, served.fusion, served.hardware)
        options = (f"{name}={value}" for name, value in served.options.items())
        return "-".join((*parts, f"batch{served.batch}", f"threads{served.threads}", *options))


def cases(engine: Engine, networks: Iterable[Network] = NETWORKS) -> list[Case]:
    """Every network × hardware × precision × fusion that the engine offers here, and × each other value of an option.

    The best default is tried with one sample on one thread and with three on two; the other fusions and options once.
    """
    offer = engine.offer()
    deployments = [
        Deployment(engine.name, precision, fusion, batch, threads, hardware)
        for hardware, precisions in offer.precisions.items()
        for precision in precisions
        for fusion in offer.fusions_on(hardware)
        for batch, threads in (((1, 1), (3, 2)) if fusion == offer.fusions_on(hardware)[0] else ((2, 1),))
    ]
    deployments += [
        Deployment(engine.name, precision, offer.fusions_on(hardware)[0], 2, 2, hardware, options={option.name: value})
        for hardware, precisions in offer.precisions.items()
        for precision in precisions
        for option in engine.options
        if option.applies_to(hardware)
        for value in _others(option)
    ]
    return [
        Case(engine, network, deployment)
        for network in networks
        for deployment in deployments
        if not deployment.precision.startswith("int8") or deployment.precision in network.quantizes
    ]


def _others(option: Parameter) -> tuple[Value, ...]:
    """Its values besides the default; of a whole number the next one."""
    if option.choices:
        return tuple(value for value in option.choices if value != option.default)
    return (option.default + 1,) if isinstance(option.default, int) and option.allows(option.default + 1) else ()


def check(case: Case, workbench: Workbench) -> str | None:
    """Build, load and run: outputs agree with the source, calls repeat, and what ran is what was asked.

    Returns:
        None, or why the engine refused; it may refuse a fusion or an option that is not its default, or a precision under it.

    Raises:
        AssertionError: the engine does not meet the bar; the message says where.
    """
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        artifact = Path(folder)
        try:
            _build(case, workbench, artifact)
            session = case.engine.load(artifact, case.deployment, case.network.signature)
        except StageError as error:
            _assert_readable_refusal(error)
            best = case.engine.offer().fusions_on(case.deployment.hardware)[0]
            if case.deployment.fusion == best and not case.deployment.options:
                message = f"{case} is refused: {error}"
                raise AssertionError(message) from error
            return error.message
        inputs = case.network.inputs(case.deployment.batch)
        first = _copies(session(inputs))
        session(case.network.inputs(case.deployment.batch, seed=1))
        _assert_agree(case, _copies(session(inputs)), first, tolerance=1e-5, what="the same inputs again")
        expected = workbench.reference(case.network, case.deployment.batch)
        _assert_agree(case, first, expected, TOLERANCE[case.deployment.precision], what="the source network")
        effective = session.effective()
        for name in ("precision", "threads", "hardware"):
            asked, got = getattr(case.deployment, name), getattr(effective, name)
            assert got == asked, f"{case}: {name} that ran is {got}, asked was {asked} ({dict(effective.details)})"
        _assert_streams_agree(case, session, expected)
        _assert_rejects_other_batch(case, session)
        session.close()
    return None


def check_declarations(engine: Engine) -> None:
    """What the engine declares holds together."""
    offer = engine.offer()
    assert offer.engine == engine.name
    assert offer.available or (offer.reason and offer.remedy), "an engine that offers nothing says why, and what to do"
    assert set(engine.formats) <= set(FORMATS), f"unknown formats {engine.formats}"
    fields = {field.name for field in dataclasses.fields(Deployment)} - {"engine"}
    fields |= {option.name for option in engine.options}
    assert set(engine.build_fields) <= fields, f"build_fields are among {sorted(fields)}"
    for option in engine.options:
        assert option.allows(option.default), f"the default of {option.name} is not allowed: {option.default}"
        assert option.about, f"{option.name} says what it is about"
    for fusions in (offer.fusions, *offer.fusions_by_device.values()):
        assert "default" in fusions, "Deployment's default fusion is one of the engine's"
    assert set(offer.fusions_by_device) | {name for option in engine.options for name in option.devices} <= set(DEVICES)
    assert not set(offer.lacking) & set(offer.precisions), "a device is there or it is lacking"


def check_refusal(engine: Engine, workbench: Workbench) -> None:
    """A network that cannot be taken ends in StageError (UNSUPPORTED) with one readable sentence."""
    case = Case(engine, REFUSING, Deployment(engine.name))
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        try:
            _build(case, workbench, Path(folder))
        except StageError as error:
            _assert_readable_refusal(error)
        else:
            message = f"{engine.name} built a network that raises when it is called"
            raise AssertionError(message)


def check_unusual(engine: Engine, network: Network, workbench: Workbench) -> str | None:
    """A network with an operator or a shape that many runtimes do not take is computed rightly, or refused in one readable sentence.

    Returns:
        None, or the refusal.
    """
    case = Case(engine, network, Deployment(engine.name, batch=2))
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        artifact = Path(folder)
        try:
            _build(case, workbench, artifact)
            outputs = _copies(engine.load(artifact, case.deployment, network.signature)(network.inputs(2)))
        except StageError as error:
            _assert_readable_refusal(error)
            return error.message
        _assert_agree(case, outputs, workbench.reference(network, 2), TOLERANCE["fp32"], what="the source network")
    return None


def check_fresh_process(case: Case, workbench: Workbench, *, blocked: tuple[str, ...] = ()) -> None:
    """An artifact loads in a process that never saw the network, and gives the same outputs there.

    Args:
        case: what to build.
        workbench: where sources lie.
        blocked: modules that cannot be imported there, as if they were not installed.
    """
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        artifact = Path(folder) / "artifact"
        artifact.mkdir()
        _build(case, workbench, artifact)
        inputs = case.network.inputs(case.deployment.batch)
        outputs = _copies(case.engine.load(artifact, case.deployment, case.network.signature)(inputs))
        np.savez(Path(folder) / "inputs.npz", *inputs)
        request = [*map(canonical_json, (case.deployment, case.network.signature)), ",".join(blocked)]
        subprocess.run(
            [sys.executable, "-m", "autoopt.testing.fresh_process", folder, *request], check=True, timeout=120
        )
        with np.load(Path(folder) / "outputs.npz") as archive:
            there = tuple(archive[name] for name in archive.files)
        _assert_agree(case, there, outputs, tolerance=1e-5, what="the process that built it")


def _build(case: Case, workbench: Workbench, artifact: Path) -> None:
    source = workbench.source(case.network, case.engine.formats, case.deployment)
    case.engine.build(source, case.deployment, artifact)


def _assert_readable_refusal(error: StageError) -> None:
    assert error.kind is FailureKind.UNSUPPORTED, f"a refusal is UNSUPPORTED, not {error.kind}"
    assert "\n" not in error.message, f"a refusal is one sentence, not {error.message!r}"


def _copies(outputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(output.copy() for output in outputs)


def _assert_agree(
    case: Case, outputs: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], tolerance: float, *, what: str
) -> None:
    shapes, wanted = [output.shape for output in outputs], [output.shape for output in expected]
    assert shapes == wanted, f"{case}: outputs have the shapes {shapes}; those of {what} {wanted}"
    for index, (output, right) in enumerate(zip(outputs, expected, strict=True)):
        difference = float(np.abs(output - right).mean() / (right.std() + 1e-12))
        assert difference <= tolerance, (
            f"{case}: output {index} differs from that of {what} by {difference:.3g} standard deviations; "
            f"{tolerance:.3g} are allowed"
        )


def _assert_streams_agree(case: Case, session: Session, expected: tuple[np.ndarray, ...]) -> None:
    """Calls under way at once do not get into each other's way."""
    if session.streams == 1:
        return
    others = case.network.inputs(case.deployment.batch, seed=1)
    for stream in range(session.streams):
        session.start(stream, others if stream else case.network.inputs(case.deployment.batch))
    outputs = [_copies(session.finish(stream)) for stream in range(session.streams)]
    _assert_agree(case, outputs[0], expected, TOLERANCE[case.deployment.precision], what="the source network")
    _assert_agree(case, outputs[-1], _copies(session(others)), 1e-5, what="the same inputs in a single call")


def _assert_rejects_other_batch(case: Case, session: object) -> None:
    assert callable(session)
    try:
        session(case.network.inputs(case.deployment.batch + 1))
    except ValueError:
        return
    message = f"{case}: another batch than the artifact was built for must raise ValueError"
    raise AssertionError(message)
