"""Serve a store over HTTP: search, embed, predict, and a web page.

    python jobs/serve.py --store demo-output/store --registry demo-output/registry
    UNIRNA_API_KEY=$(openssl rand -hex 32) python jobs/serve.py --store s3://bucket/store --host 0.0.0.0 --replicas 4

Stays in the foreground; Ctrl-C or SIGTERM lets running requests finish and ends it with exit code 0. With RAY_ADDRESS set
(as `ray job submit` does) the replicas run on that cluster, else on an embedded Ray that listens on loopback alone.
"""

from __future__ import annotations

import sys

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.serve import Settings
from unirna.serve.ray.serving import serve_store


def main() -> int:
    """Run the job."""
    return run_job(lambda: serve_store(tyro.cli(Settings, default=Settings.from_environment(), description=__doc__)))


if __name__ == "__main__":
    sys.exit(command(main))
