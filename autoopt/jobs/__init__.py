"""A job: one search, submitted, watched, resumed, cancelled."""

from autoopt.jobs.job import Job, JobResult
from autoopt.jobs.submit import find as job
from autoopt.jobs.submit import go_on, resume, search, submit
from autoopt.jobs.submit import listed as jobs

__all__ = ["Job", "JobResult", "go_on", "job", "jobs", "resume", "search", "submit"]
