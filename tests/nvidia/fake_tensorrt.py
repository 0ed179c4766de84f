"""A TensorRT that is none: what a session asks of it, by the names and in the order of NVIDIA's Python reference; its network is the identity."""

from __future__ import annotations

import ctypes
import enum
import json
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

VERSION = "11.4.0.106"


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(enum.Enum):
    JSON = 1


class ILogger:
    ERROR = 1


class Context:
    """Of one input "x" and one output "output_0", ``(batch, 3)``, the batch at most that of the plan."""

    def __init__(self, plan: dict[str, Any], driver: ctypes.CDLL) -> None:
        self.plan, self._driver, self.batch = plan, driver, 0
        self._places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "x"
        self.batch = shape[0] if shape[0] <= self.plan["batch"] else 0
        return bool(self.batch)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self.plan.get("depends") and name == "output_0" else self.batch, 3)

    def set_tensor_address(self, name: str, pointer: int) -> None:
        self._places[name] = pointer

    def execute_async_v3(self, stream: int) -> bool:
        arguments = (
            ctypes.c_uint64(self._places["output_0"]),
            ctypes.c_uint64(self._places["x"]),
            ctypes.c_size_t(4 * 3 * self.batch),
            ctypes.c_void_p(stream),
        )
        return not self._driver.fake_identity(*arguments)


class Inspector:
    execution_context: Context

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form is LayerInformationFormat.JSON
        return json.dumps({"Layers": self.execution_context.plan["layers"]})


class Engine:
    num_io_tensors = 2

    def __init__(self, plan: dict[str, Any], driver: ctypes.CDLL) -> None:
        self._plan, self._driver = plan, driver

    def create_execution_context(self) -> Context:
        return Context(self._plan, self._driver)

    def create_engine_inspector(self) -> Inspector:
        return Inspector()

    def get_tensor_name(self, index: int) -> str:
        return ("x", "output_0")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (-1, 3)

    def get_tensor_dtype(self, _name: str) -> type:
        return np.float32


class Runtime:
    driver: ClassVar[ctypes.CDLL]
    max_threads = 1

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if plan == b"damaged":
            self._logger.log(ILogger.ERROR, "Magic tag does not match")
            return None
        return Engine(json.loads(plan), self.driver)


def module(driver: ctypes.CDLL) -> ModuleType:
    """As ``import tensorrt`` gives it."""
    Runtime.driver = driver
    made = ModuleType("tensorrt")
    vars(made).update(
        __version__=VERSION,
        ILogger=ILogger,
        LayerInformationFormat=LayerInformationFormat,
        TensorIOMode=TensorIOMode,
        Runtime=Runtime,
        nptype=lambda kind: kind,
    )
    return made
