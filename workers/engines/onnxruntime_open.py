"""Opening ONNX Runtime's sessions: threads, optimization level, providers; and watching one run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.workers.engines.common import thread_count
from autoopt.workers.engines.onnxruntime_profile import CPU, Profile, read_profile
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnxruntime

    from autoopt.records import Deployment
    from autoopt.workers.engines.onnxruntime_cuda import Provider
    from autoopt.workers.parameters import Value

FILE = "model.onnx"
LEVELS = {
    "default": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
_ERRORS_ONLY = 3
_PROFILED_RUNS = 4


class Opener:
    """Opens sessions of one deployment.

    Args:
        path: the artifact.
        deployment: its level and threads.
        options: a value for each of the engine's options.
        provider: the GPU's; None for the processor.
    """

    def __init__(
        self, path: Path, deployment: Deployment, options: dict[str, Value], provider: Provider | None = None
    ) -> None:
        self._path, self._deployment, self._options, self._provider = path, deployment, options, provider
        self.provider_name = CPU if provider is None else provider.name

    def session(self, profile: Path | None = None) -> onnxruntime.InferenceSession:
        """A session.

        Raises:
            StageError: UNSUPPORTED where ONNX Runtime cannot take the network, or start the provider.
        """
        import onnxruntime

        options = self._session_options()
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        providers: list[Any] | None = [CPU]
        if self._provider is not None:
            providers = self._provider.added_to(options)
        with refusing("ONNX Runtime cannot load the network" if self._provider is None else self._provider.cannot):
            # It would open the session again, on the processor, without a word to the program.
            session = onnxruntime.InferenceSession(
                str(self._path / FILE), options, providers=providers, enable_fallback=0
            )
        if self._provider is not None:
            self._provider.require_started(session)
        return session

    def profiled(self, feed: dict[str, Any]) -> tuple[Profile, int]:
        """What a twin of the session runs; also the number of threads that compute, the calling one included."""
        with tempfile.TemporaryDirectory(prefix="autoopt-profile-") as folder:
            before = thread_count()
            session = self.session(Path(folder) / "profile")
            started = thread_count() - before
            for _ in range(_PROFILED_RUNS):
                session.run(None, feed)
            profile = read_profile(Path(session.end_profiling()), _PROFILED_RUNS)
        if self._provider is not None or not before:
            # A GPU's runtime starts threads of its own, which only wait: what counts is the session's pool.
            return profile, int(session.get_session_options().intra_op_num_threads)
        return profile, started + 1

    def _session_options(self) -> onnxruntime.SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        level = LEVELS[self._deployment.fusion]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        inter_op = self._inter_op()
        # Whoever calls is one of both pools.
        options.intra_op_num_threads = self._deployment.threads - inter_op + 1
        options.inter_op_num_threads = inter_op
        if inter_op > 1:
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        # Threads may spin while a call runs, which is quick, and not between calls: an idle session must leave its cores to others.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        spinning = "1" if self._options["spinning"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
        return options

    def _inter_op(self) -> int:
        inter_op, threads = int(self._options["inter_op"]), self._deployment.threads
        if inter_op > threads:
            message = f"ONNX Runtime cannot run {inter_op} nodes side by side with {threads} threads in all"
            raise unsupported(message)
        return inter_op
