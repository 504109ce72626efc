"""``/api/v1``: every read and every action as JSON, and the document that describes them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.routing import Route

from sandboxq import __version__
from sandboxq.errors import UsageError
from sandboxq.web import (
    bulk_actions,
    live_reads,
    one_job_actions,
    profile_actions,
    queue_actions,
    running_actions,
    scheduler_actions,
)
from sandboxq.web.actions import ACTIONS, Visit
from sandboxq.web.answers import API, JsonResponse, failed, page
from sandboxq.web.context import dashboard_of, visitor_of
from sandboxq.web.operations import READS, Operation, openapi
from sandboxq.web.reads import (
    audit,
    deaths,
    doctor,
    failures,
    flows,
    job,
    latency,
    overview,
    profiles,
    queue,
    schedulers,
    search,
)
from sandboxq.web.reads.job import DOWNLOADS, read_whole
from sandboxq.web.reads.profiles import read_profile_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    Endpoint = Callable[[Request], Awaitable[Response]]

# Imported for the reads and the actions that they list.
MODULES = (
    bulk_actions,
    one_job_actions,
    profile_actions,
    queue_actions,
    scheduler_actions,
    audit,
    deaths,
    doctor,
    failures,
    flows,
    job,
    running_actions,
    latency,
    live_reads,
    overview,
    profiles,
    queue,
    schedulers,
    search,
)
_MOST_FIELDS = 100
_JOB = "/queues/{queue:sandboxq}/jobs/{job_id:sandboxq}"
_DOWNLOAD = _JOB + "/{field:sandboxq}"
_PROFILE = _JOB + "/profile/{form:sandboxq}"


def api_routes() -> list[Route]:
    """Return the routes of the API."""
    return [
        *(Route(API + it.route, _read(it), methods=["GET"]) for it in READS),
        *(Route(API + it.route, _act(it), methods=["POST"]) for it in ACTIONS),
        Route(f"{API}{_PROFILE}", _profile, methods=["GET"]),
        Route(f"{API}{_DOWNLOAD}", _download, methods=["GET"]),
        Route(f"{API}/openapi.json", _document, methods=["GET"]),
        Route("/api/{rest:path}", _nothing),
    ]


def form_routes() -> list[Route]:
    """Return the routes by which forms of the pages act: the same actions, answered in HTML."""
    return [Route(it.route, _act_by_form(it), methods=["POST"]) for it in ACTIONS]


def _read(operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        arguments = operation.arguments(request.path_params, request.query_params)
        return JsonResponse(await operation.function(dashboard_of(request), **arguments))

    return endpoint


def _act(operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        arguments = operation.arguments(request.path_params, await _body(request))
        return JsonResponse(await operation.function(visit_of(request), **arguments))

    return endpoint


def _act_by_form(operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        arguments = operation.arguments(
            request.path_params, operation.values_of_form(await _form(request))
        )
        done = await operation.function(visit_of(request), **arguments)
        return page(request, "done.html", done=done)

    return endpoint


def visit_of(request: Request) -> Visit:
    """Return who acts on what."""
    return Visit(dashboard_of(request), visitor_of(request))


async def _body(request: Request) -> dict[str, Any]:
    """Return the members of a body of JSON. Raises: UsageError."""
    raw = await request.body()
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        message = f"the body of the request is not JSON: {error}"
        raise UsageError(message) from error
    if not isinstance(body, dict):
        message = "the body of the request must be a JSON object"
        raise UsageError(message)
    return body


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; of a name that comes twice, the texts. Raises: UsageError."""
    raw = (await request.body()).decode(errors="replace")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        message = f"the form cannot be read: {error}"
        raise UsageError(message) from error
    return dict(pairs)


async def _download(request: Request) -> Response:
    """Return all of a job's data, value or options, as a file."""
    names = (request.path_params[name] for name in ("queue", "job_id", "field"))
    text = await read_whole(dashboard_of(request), *names)
    headers = {"Content-Disposition": f'attachment; filename="{request.path_params["field"]}.json"'}
    return Response(text.encode(errors="replace"), 200, headers, "application/json")


async def _profile(request: Request) -> Response:
    """Return a profile of a job as a file for another tool."""
    names = (request.path_params[name] for name in ("queue", "job_id", "form"))
    profile_id = request.query_params.get("profile", "")
    text, file = await read_profile_file(dashboard_of(request), *names, profile_id=profile_id)
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    kind = "application/json" if file.endswith(".json") else "text/plain; charset=utf-8"
    return Response(text.encode(errors="replace"), 200, headers, kind)


async def _document(request: Request) -> Response:
    """Return the OpenAPI document."""
    base = request.scope.get("root_path", "") + API
    document = openapi((*READS, *ACTIONS), __version__, base)
    document["paths"][_DOWNLOAD.replace(":sandboxq}", "}")] = {"get": _described_download()}
    return JsonResponse(document)


def _described_download() -> dict[str, Any]:
    text = {"type": "string"}
    schemas = {"queue": text, "job_id": text, "field": {"enum": list(DOWNLOADS)}}
    return {
        "operationId": "download",
        "summary": "All of a value that is stored with a job, as a file; secrets are hidden.",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in schemas.items()
        ],
        "responses": {
            "200": {"description": "the JSON", "content": {"application/json": {"schema": {}}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


async def _nothing(request: Request) -> Response:
    message = f"there is nothing at this path; {API}/openapi.json lists what there is"
    return failed(request, HTTPStatus.NOT_FOUND, "NotHere", message)
