"""What the engines share of NVIDIA GPUs: whether there is one, which precisions it executes, and whether a library fits its driver."""

from __future__ import annotations

from typing import NamedTuple

from autoopt.records import nvidia
from autoopt.records.nvidia import Gpu
from autoopt.workers.parameters import Parameter

TF32 = Parameter(
    "tf32",
    False,  # noqa: FBT003 (a value)
    choices=(True, False),
    about="Whether FP32 products may be computed in TF32, with 10 bits of mantissa instead of 23.",
    devices=("cuda",),
)


class Lacking(NamedTuple):
    """Why a GPU cannot be used."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; to mend it: {self.remedy}"


NO_GPU = Lacking(
    "there is no NVIDIA GPU that a driver tells of",
    "install NVIDIA's driver, and see that nvidia-smi lists the GPU and that CUDA_VISIBLE_DEVICES does not hide it "
    "(a container needs the driver capabilities compute and utility)",
)


def precisions(gpu: Gpu) -> tuple[str, ...]:
    """fp32, and the shorter floats that the GPU has instructions for.

    By NVIDIA's table of compute capabilities (CUDA C++ Programming Guide): FP16 from 5.3 on, BF16 from 8.0 on. PyTorch takes BF16 on
    older ones too, and computes it in FP32.
    """
    shorter = (("bf16", (8, 0)), ("fp16", (5, 3)))
    return ("fp32", *(name for name, since in shorter if gpu.capability >= since))


def unfit(library: str, built_for: str, since: tuple[int, int] = (0, 0)) -> Lacking | None:
    """Why a library that was built for a CUDA cannot use this machine's GPU; None where it can.

    Args:
        library: what it is called, for people: ``"PyTorch 2.13"``.
        built_for: CUDA's version, ``"13.0"`` or ``"13"``.
        since: the compute capability that it needs at least.

    A driver runs programs for every CUDA of its own major version and of older ones (NVIDIA: "CUDA Compatibility").
    """
    gpu = nvidia.gpu()
    if gpu is None:
        return NO_GPU
    if _major(built_for) > _major(gpu.cuda):
        return Lacking(
            f"{library} was built for CUDA {built_for}, and the driver {gpu.driver} runs CUDA {gpu.cuda} at most",
            "update the driver, or install a build for that CUDA",
        )
    if gpu.capability < since:
        needed = ".".join(map(str, since))
        return Lacking(
            f"{library} needs the compute capability {needed}, and the {gpu.name} has {gpu.compute_capability}",
            "use a newer GPU, or another engine",
        )
    return None


def _major(version: str) -> int:
    return int(version.partition(".")[0])
