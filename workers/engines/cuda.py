"""What the engines share of NVIDIA GPUs: whether there is one, which precisions it executes, and which of an engine's libraries fit it."""

from __future__ import annotations

from autoopt.records import nvidia
from autoopt.records.nvidia import Gpu
from autoopt.workers.parameters import Parameter

NO_GPU = (
    "there is no NVIDIA GPU that a driver tells of; to mend it: install NVIDIA's driver, and see that nvidia-smi lists the GPU and that "
    "CUDA_VISIBLE_DEVICES does not hide it (a container needs the driver capabilities compute and utility)"
)

TF32 = Parameter(
    "tf32",
    False,  # noqa: FBT003 (a value)
    choices=(True, False),
    about="Whether FP32 products may be computed in TF32, with 10 bits of mantissa instead of 23.",
    devices=("cuda",),
)


def precisions(gpu: Gpu) -> tuple[str, ...]:
    """fp32, and the shorter floats that the GPU has instructions for.

    By NVIDIA's table of compute capabilities (CUDA C++ Programming Guide): FP16 from 5.3 on, BF16 from 8.0 on. PyTorch takes BF16 on
    older ones too, and computes it in FP32.
    """
    shorter = (("bf16", (8, 0)), ("fp16", (5, 3)))
    return ("fp32", *(name for name, since in shorter if gpu.capability >= since))


def unfit(runtime: str, built_for: str, gpu: Gpu | None = None) -> str | None:
    """Why a library that was built for a CUDA cannot use the GPU of this machine, and what mends it; None where it can.

    Args:
        runtime: what the library is called, for people: ``"PyTorch 2.13"``.
        built_for: CUDA's version, ``"13.0"``.
        gpu: this machine's, by default.

    A driver runs programs for every CUDA of its own major version and of older ones (CUDA Compatibility: minor version compatibility).
    """
    gpu = gpu or nvidia.gpu()
    if gpu is None:
        return NO_GPU
    if _major(built_for) > _major(gpu.cuda):
        return (
            f"{runtime} was built for CUDA {built_for}, and the driver {gpu.driver} runs CUDA {gpu.cuda} at most; to mend it: update "
            "the driver, or install a build for that CUDA"
        )
    return None


def _major(version: str) -> int:
    return int(version.partition(".")[0])
