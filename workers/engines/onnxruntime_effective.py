"""What a session of ONNX Runtime really ran, from the profile of its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoopt.records import Effective
from autoopt.workers.engines.common import precision_by_share
from autoopt.workers.engines.onnxruntime_cuda import CUDA, RTX, TENSORRT
from autoopt.workers.engines.onnxruntime_profile import CPU

if TYPE_CHECKING:
    import numpy as np

    from autoopt.workers.engines.onnxruntime_open import Opener


def effective(
    opener: Opener, session: Any, feed: dict[str, np.ndarray], types: dict[str, int] | None = None
) -> Effective:
    """What a twin of the session ran.

    Args:
        opener: of the session.
        session: it.
        feed: its inputs.
        types: of a session on a GPU: the compute nodes of the graph by precision.
    """
    import onnxruntime

    profile, threads = opener.profiled(feed)
    # TensorRT makes one node of many, whose types the profiler does not tell.
    fused = {TENSORRT, RTX} & set(profile.providers)
    nodes = (types or {}) if fused else profile.precisions
    precision, words = precision_by_share(nodes)
    options = session.get_session_options()
    providers = ", ".join(f"{name} {count}" for name, count in profile.providers.items())
    return Effective(
        nodes=nodes,
        # On a GPU the profiler's clock sees launches, not what they launch.
        time={} if types is not None else profile.time,
        engine_version=str(onnxruntime.__version__),
        hardware=hardware_of(profile.providers, profile.on_processor),
        precision=precision,
        threads=threads,
        details={
            "compute nodes": words,
            "nodes": str(profile.nodes),
            "providers": providers,
            "graph optimization": options.graph_optimization_level.name,
            "nodes at once": str(options.inter_op_num_threads),
            "spinning": options.get_session_config_entry("session.intra_op.allow_spinning"),
            **({} if types is None else {"nodes left to the processor": str(profile.on_processor)}),
        },
    )


def hardware_of(providers: Mapping[str, int], on_processor: int) -> str:
    """The processor, the GPU, or both where a GPU's provider has left nodes to the processor."""
    if not set(providers) - {CPU}:
        return "cpu"
    unknown = sorted(set(providers) - {CPU, CUDA, TENSORRT, RTX})
    return ", ".join([*(["cpu"] if on_processor else []), "cuda", *unknown])
