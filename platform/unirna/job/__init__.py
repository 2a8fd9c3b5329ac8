"""What every job shares: a Ray cluster to run on, progress on stderr, one JSON summary on stdout, exit codes."""

from unirna.base.failures import JobError, raise_told, tell
from unirna.job.console import EXIT_CODES, JobStopped, Progress, emit_summary, run_job, say
from unirna.job.follow import followed
from unirna.job.local_ray import JOB_RESOURCE, connect_ray, num_cpus, plan_workers
from unirna.job.version import package_version

__all__ = [
    "EXIT_CODES",
    "JOB_RESOURCE",
    "JobError",
    "JobStopped",
    "Progress",
    "connect_ray",
    "emit_summary",
    "followed",
    "num_cpus",
    "package_version",
    "plan_workers",
    "raise_told",
    "run_job",
    "say",
    "tell",
]
