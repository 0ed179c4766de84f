"""The second task, for the search: a file of its own beside the code that it needs."""

from tasks import task_of

task = task_of("attention")
