"""A job: one search, submitted, watched, resumed, cancelled; on this machine or on a cluster."""

from autoopt.jobs.clustered import ClusterJob
from autoopt.jobs.job import Job, JobResult
from autoopt.jobs.local import LocalJob
from autoopt.jobs.submit import find as job
from autoopt.jobs.submit import go_on, resume, search, submit
from autoopt.jobs.submit import listed as jobs

__all__ = ["ClusterJob", "Job", "JobResult", "LocalJob", "go_on", "job", "jobs", "resume", "search", "submit"]
