"""Functions that the tests have called in other processes."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from autoopt.errors import FailureKind, StageError


def echo(request: Any) -> Any:
    return request


def where(request: Any) -> Any:
    return {"pid": os.getpid(), "parent": os.getppid(), "folder": str(Path.cwd()), "variable": os.environ.get("TOLD")}


def surroundings(request: Any) -> Any:
    import torch

    return {
        "cores": sorted(os.sched_getaffinity(0)),
        "omp": os.environ["OMP_NUM_THREADS"],
        "torch": torch.get_num_threads(),
    }


def fail(request: Any) -> Any:
    message = "first line\nsecond line"
    raise ValueError(message)


def diverge(request: Any) -> Any:
    raise StageError(FailureKind.DIVERGED, "NaN in epoch 3")


def segfault(request: Any) -> Any:
    print("before the end", flush=True)
    ctypes.string_at(0)


def kill_itself(request: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def litter(request: Any) -> Any:
    """Leave a temporary file, say where, and die."""
    _, name = tempfile.mkstemp()
    Path(request).write_text(name)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(request: Any) -> Any:
    os._exit(0)


def not_json(request: Any) -> Any:
    return {"value": object()}


def sleep_with_child(request: Any) -> Any:
    """Start a child, one in its own session and a daemon, note them, and hang or return."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(300)"]
    plain = subprocess.Popen(sleeper)
    own_session = subprocess.Popen(sleeper, start_new_session=True)
    daemon = int(
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import subprocess; print(subprocess.Popen({sleeper!r}, stdout=subprocess.DEVNULL, start_new_session=True).pid)",
            ],
            capture_output=True,
            check=True,
        ).stdout
    )
    pids = [os.getpid(), plain.pid, own_session.pid, daemon]
    Path(request["note"]).write_text(" ".join(map(str, pids)))
    time.sleep(request["seconds"])
    return pids


def allocate(request: Any) -> Any:
    held = []
    for _ in range(200):
        held.append(bytearray(os.urandom(1) * 10_000_000))
        time.sleep(0.005)
    return len(held)


def fill_disk(request: Any) -> Any:
    """Write without end into the folder, or into the one for temporary files: 10 MB every 50 ms, and 3 GB at most."""
    with Path(request or tempfile.gettempdir(), "filling").open("wb") as file:
        for _ in range(300):
            file.write(bytes(10_000_000))
            file.flush()
            time.sleep(0.05)


def raise_memory_error(request: Any) -> Any:
    return bytearray(1 << 60)


def print_much(request: Any) -> Any:
    line = "x" * 9_999 + "\n"
    for _ in range(request // 10_000):
        sys.stdout.write(line)
    message = "at the very end"
    raise RuntimeError(message)


def close_output(request: Any) -> Any:
    sys.stdout.flush()
    os.close(1)
    os.close(2)
    before = time.process_time()
    time.sleep(0.3)
    os.open(os.devnull, os.O_WRONLY)
    os.open(os.devnull, os.O_WRONLY)
    return time.process_time() - before


def run_engines(request: Any) -> Any:
    """A session with two threads in each runtime, after the fork."""
    import numpy as np
    import onnx
    import onnxruntime
    import openvino
    import torch

    torch.set_num_threads(2)
    values = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", 1, [256, 256])],
        [onnx.helper.make_tensor_value_info("y", 1, [256, 256])],
        [onnx.numpy_helper.from_array(values, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    network = core.read_model(model.SerializeToString())
    # Where the processor executes BF16, OpenVINO takes it unless told otherwise.
    settings = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(network, "CPU", settings)
    expected = torch.from_numpy(values) @ torch.from_numpy(values)
    outputs = (session.run(None, {"x": values})[0], compiled([values])[0])
    return [float(np.abs(output - expected.numpy()).max()) for output in outputs]


def threads(request: Any) -> Any:
    return len(list(Path("/proc/self/task").iterdir()))


def autogroup(request: Any) -> str:
    path = Path("/proc/self/autogroup")
    return path.read_text().split()[-1] if path.exists() else "none"


def watch_cores(request: Any) -> Any:
    """Until the file is there: on which processors this process's threads may run, whenever that changes."""
    import threading

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    seen: list[list[list[int]]] = []
    while not Path(request["until"]).exists():
        threads = [sorted(os.sched_getaffinity(int(task.name))) for task in Path("/proc/self/task").iterdir()]
        if not seen or seen[-1] != threads:
            seen.append(threads)
            Path(request["note"]).write_text(str(len(seen)))
        time.sleep(0.005)
    stop.set()
    thread.join()
    return seen


def cores(request: Any) -> Any:
    time.sleep(request)
    return sorted(os.sched_getaffinity(0))


def imported(request: Any) -> Any:
    return request in sys.modules
