"""`/v1/jobs`: submit jobs, see them, stop them, and fetch what they made."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import FileResponse, Response

from unirna.job import package_version
from unirna.serve.api import job_schemas as schemas
from unirna.serve.api.schemas import Problem
from unirna.serve.engine.engine import Engine
from unirna.serve.errors import RequestError
from unirna.serve.jobs.jobs import Jobs
from unirna.tasks import list_predictors

OFF: Final = "this service takes no jobs. Start it with --jobs-folder FOLDER (UNIRNA_JOBS_FOLDER)"
DOWNLOAD_HEADERS: Final = {
    # What a job wrote may quote what somebody sent: it is saved, and never shown as a page of this service.
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
}

OFF_ANSWER: Final[dict[int | str, dict[str, Any]]] = {501: {"model": Problem, "description": "The service takes no jobs"}}
ASKS_CLUSTER: Final = OFF_ANSWER | {
    503: {"model": Problem, "description": "The cluster does not answer; send the same request again"}
}
STARTS: Final = ASKS_CLUSTER | {507: {"model": Problem, "description": "The disk for jobs is almost full"}}
"""Answers of routes that take jobs, that ask the cluster too, and that start one."""

router = APIRouter(prefix="/v1", tags=["jobs"])


def _jobs(request: Request) -> Jobs:
    jobs: Jobs | None = request.app.state.jobs
    if jobs is None:
        raise RequestError(501, OFF)
    return jobs


JobsOf = Annotated[Jobs, Depends(_jobs)]


@router.get("/service", response_model=schemas.Service, summary="What this service offers the caller")
def service(request: Request) -> Any:
    """Its version, whether it takes jobs, what the caller's key allows, and the largest request that it answers."""
    state = request.app.state
    limits = {name: getattr(state.settings, name) for name in schemas.ServiceLimits.model_fields}
    return {"version": package_version(), "jobs": state.jobs is not None, "scope": request.state.scope, "limits": limits}


@router.post("/jobs", status_code=202, response_model=schemas.Job, responses=STARTS, summary="Submit a job")
async def submit(
    body: schemas.JobRequest,
    request: Request,
    jobs: JobsOf,
    idempotency_key: Annotated[
        str | None,
        Header(description="A key of your choice; a repeated request with the same key and body starts no second job."),
    ] = None,
) -> Any:
    """Embed sequences into a collection, screen a library, or fine-tune a predictor. Needs a key with the scope write."""
    engine: Engine = request.app.state.engine

    def submitted() -> dict[str, Any]:
        tasks = list(list_predictors(engine.predictors.registry))
        return jobs.submit(body, tasks, by=request.state.caller, key=idempotency_key)

    job = await asyncio.to_thread(submitted)
    request.state.job = job["id"]
    return job


@router.get("/jobs", response_model=schemas.JobsResponse, responses=OFF_ANSWER, summary="The jobs")
def listed(jobs: JobsOf, limit: Annotated[int, Query(ge=1, le=500, description="Maximum number of jobs.")] = 50) -> Any:
    """Newest first."""
    return {"jobs": jobs.newest(limit)}


@router.get("/jobs/{id}", response_model=schemas.Job, responses=OFF_ANSWER, summary="One job")
def one(id: str, jobs: JobsOf) -> Any:
    """Its state, its progress, and its summary when it has ended."""
    return jobs.get(id)


@router.get("/jobs/{id}/log", response_model=schemas.JobLog, responses=OFF_ANSWER, summary="The end of a job's log")
def log(id: str, jobs: JobsOf, lines: Annotated[int, Query(ge=1, le=1000, description="How many lines.")] = 100) -> Any:
    """The end of its log."""
    return {"lines": jobs.log(id, lines)}


@router.post("/jobs/{id}/cancel", response_model=schemas.Job, responses=ASKS_CLUSTER, summary="Stop a job")
def cancel(id: str, body: schemas.Nothing, request: Request, jobs: JobsOf) -> Any:
    """Its saved work is kept; a job that has ended does not change. Needs a key with the scope write."""
    job = jobs.cancel(id, by=request.state.caller)
    request.state.job = job["id"]
    return job


@router.post("/jobs/{id}/resume", response_model=schemas.Job, responses=STARTS, summary="Resume a job")
def resume(id: str, body: schemas.Nothing, request: Request, jobs: JobsOf) -> Any:
    """Run the command of a job that failed, was stopped or is lost again. Needs a key with the scope write."""
    job = jobs.resume(id, by=request.state.caller)
    request.state.job = job["id"]
    return job


@router.get("/jobs/{id}/results", response_model=schemas.JobResults, responses=OFF_ANSWER, summary="Result files of a job")
def results(id: str, jobs: JobsOf) -> Any:
    """Their names and sizes."""
    return {"files": jobs.results(id)}


@router.get(
    "/jobs/{id}/results/{name}", response_class=FileResponse, responses=OFF_ANSWER, summary="A result file of a job"
)
def result(id: str, name: str, jobs: JobsOf) -> Response:
    """Download a file; reports are not displayed as pages of this service."""
    path = jobs.result(id, name)
    if path.suffix == ".html":  # a report says where its input stands
        saved = DOWNLOAD_HEADERS | {"content-disposition": f'attachment; filename="{quote(name)}"'}
        return Response(jobs.hidden(path.read_text(encoding="utf-8")), media_type="application/octet-stream", headers=saved)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=name,
        content_disposition_type="attachment",
        headers=DOWNLOAD_HEADERS,
    )
