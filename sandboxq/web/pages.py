"""The pages: each calls a read and renders its template with what the read returned."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from sandboxq.web import views
from sandboxq.web.answers import failed, page, url_of
from sandboxq.web.context import dashboard_of
from sandboxq.web.operations import Operation
from sandboxq.web.reads.audit import read_audit
from sandboxq.web.reads.deaths import read_deaths
from sandboxq.web.reads.doctor import read_doctor
from sandboxq.web.reads.failures import read_failures
from sandboxq.web.reads.flows import read_flow
from sandboxq.web.reads.job import read_job, read_logs
from sandboxq.web.reads.latency import read_latency
from sandboxq.web.reads.overview import read_overview
from sandboxq.web.reads.profiles import read_profile
from sandboxq.web.reads.queue import read_jobs, read_queue
from sandboxq.web.reads.rows import STATES
from sandboxq.web.reads.schedulers import read_schedulers
from sandboxq.web.reads.search import read_search

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from sandboxq.web.operations import Function

_QUEUE = "/queues/{queue:sandboxq}"
_JOB = _QUEUE + "/jobs/{job_id:sandboxq}"
# Pages that show one read as it is: section, title, read.
_PLAIN: tuple[tuple[str, str, Function], ...] = (
    ("deaths", "Deaths", read_deaths),
    ("failures", "Failures", read_failures),
    ("schedulers", "Schedulers", read_schedulers),
    ("latency", "Latency", read_latency),
    ("doctor", "Doctor", read_doctor),
    ("search", "Search", read_search),
    ("audit", "Audit log", read_audit),
)


def page_routes() -> list[Route]:
    """Return the routes of the pages."""
    return [
        Route("/", overview, methods=["GET"]),
        *(
            Route(f"/{section}", _plain(section, title, function), methods=["GET"])
            for section, title, function in _PLAIN
        ),
        Route(_QUEUE, queue, methods=["GET"]),
        Route(f"{_QUEUE}/add", add, methods=["GET"]),
        Route(f"{_QUEUE}/limits", limits, methods=["GET"]),
        Route(_JOB, job, methods=["GET"]),
        Route(f"{_JOB}/flow", flow, methods=["GET"]),
        Route(f"{_JOB}/profile", profile, methods=["GET"]),
        Route("/{rest:path}", _nothing),
    ]


async def overview(request: Request) -> Response:
    """All queues."""
    it = await read_overview(dashboard_of(request))
    return _page(request, "overview", "Overview", it=it, totals=views.totals(it))


async def queue(request: Request) -> Response:
    """One queue, and its jobs of a state."""
    it = await _read(read_queue, request)
    given = dict(request.query_params)
    if not given.get("state"):
        given["state"] = _busiest(it["queue"]["counts"])
    jobs = await _read(read_jobs, request, given)
    name = it["queue"]["name"]
    return _page(request, "queue", name, it=it, jobs=jobs, states=STATES)


def _busiest(counts: dict[str, int]) -> str:
    """Return the state that is looked for first: what runs, else what waits, else what was."""
    for state in ("active", "waiting", "prioritized", "failed", "completed", "delayed"):
        if counts[state]:
            return state
    return "waiting"


async def add(request: Request) -> Response:
    """Write a job, and add it; ``like`` names one whose name and data it begins with."""
    it = await _read(read_queue, request)
    like = request.query_params.get("like")
    model = None
    if like:
        model = await read_job(dashboard_of(request), it["queue"]["name"], like)
    return _page(request, "add", "Add a job", _queue_step(request), it=it, model=model)


async def limits(request: Request) -> Response:
    """Show what holds for all workers of a queue together."""
    it = await _read(read_queue, request)
    return _page(request, "limits", "Limits", _queue_step(request), it=it)


async def job(request: Request) -> Response:
    """One job."""
    it = await _read(read_job, request)
    log = await _read(read_logs, request, {})
    return _page(
        request,
        "job",
        it["job"]["id"],
        _queue_step(request),
        it=it,
        log=log,
        story=views.story(it),
        facts=views.facts(it),
        death=views.death(it),
    )


async def flow(request: Request) -> Response:
    """Draw the jobs that a job waits for, and those that wait for it."""
    it = await _read(read_flow, request)
    steps = (_queue_step(request), _job_step(request))
    return _page(request, "flow", "Flow", *steps, it=it, drawing=views.drawing(it))


async def profile(request: Request) -> Response:
    """Show where the time of a job went."""
    it = await _read(read_profile, request)
    steps = (_queue_step(request), _job_step(request))
    return _page(request, "profile", "Profile", *steps, it=it)


def _plain(
    section: str, title: str, function: Function
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        it = await _read(function, request)
        return _page(request, section, title, it=it, query=request.query_params.get("q", ""))

    return endpoint


async def _read(function: Function, request: Request, given: dict[str, str] | None = None) -> Any:
    """Read with the parameters that the path and the query have for it; others are ignored."""
    in_path = request.path_params
    path = "".join(f"{{{name}}}" for name in in_path)
    operation = Operation(path, function)
    query = dict(request.query_params) if given is None else given
    known = {each.name for each in operation.parameters if not each.is_in_path}
    asked = {name: value for name, value in query.items() if name in known}
    return await function(dashboard_of(request), **operation.arguments(in_path, asked))


def _page(
    request: Request, section: str, title: str, *trail: tuple[str, str | None], **context: Any
) -> Response:
    """Render ``section``'s template; the trail leads to it from the overview."""
    start = [] if section == "overview" else [("Overview", _root(request) + "/")]
    crumbs = [*start, *trail, (title, None)]
    return page(request, f"{section}.html", title=title, section=section, crumbs=crumbs, **context)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


def _queue_step(request: Request) -> tuple[str, str | None]:
    name = request.path_params["queue"]
    return name, url_of(_root(request), "queues", name)


def _job_step(request: Request) -> tuple[str, str | None]:
    name, job_id = request.path_params["queue"], request.path_params["job_id"]
    return job_id, url_of(_root(request), "queues", name, "jobs", job_id)


async def _nothing(request: Request) -> Response:
    return failed(request, HTTPStatus.NOT_FOUND, "NotHere", "there is no page at this address")
