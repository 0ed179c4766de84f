"""The task: what is optimized."""

from autoopt.task.load import LoadedTask, TaskRef, load_task, save_task
from autoopt.task.metrics import METRICS, Metric
from autoopt.task.prepare import prepare
from autoopt.task.prepared import Arrays, PreparedTask, TaskSource
from autoopt.task.task import Task

__all__ = [
    "METRICS",
    "Arrays",
    "LoadedTask",
    "Metric",
    "PreparedTask",
    "Task",
    "TaskRef",
    "TaskSource",
    "load_task",
    "prepare",
    "save_task",
]
