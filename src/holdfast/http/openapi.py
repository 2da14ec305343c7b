"""`/openapi.json`: OpenAPI 3.1, generated from what the models expose and what the endpoints declare."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from holdfast.http import api_keys, privacy
from holdfast.http.access import Access
from holdfast.http.cache import ADMINISTERED, SPAN
from holdfast.http.described import SCHEMES, SECURITY, paths_of, ref, responses, schemas_of
from holdfast.http.endpoints import Endpoint
from holdfast.http.exposed import Resource
from holdfast.http.finding import PATH
from holdfast.http.problems import MEDIA_TYPE, Problem

_PROBLEMS = {
    "304": "The client has it already (`If-None-Match`).",
    "404": "There is nothing with this key.",
    "422": "A parameter is unknown, or its value is not what it must be.",
    "503": "The database cannot be reached; try again after `Retry-After` seconds.",
}


def describe(
    title: str,
    version: str,
    resources: Iterable[Resource],
    access: Access,
    endpoints: Iterable[Endpoint],
    *,
    has_api_keys: bool = False,
    has_privacy: bool = False,
    webhooks: Iterable[str] = (),
) -> dict[str, Any]:
    """The document.

    Args:
        has_api_keys, has_privacy: whether `/v1/api-keys` and `/v1/privacy` are there.
        webhooks: the providers that have an endpoint.
    """
    resources = [r for r in resources if access.is_shown(r)]
    endpoints = list(endpoints)
    structs = [endpoint.returns for endpoint in endpoints] + [Problem, *ADMINISTERED]
    structs += api_keys.DESCRIBED if has_api_keys else ()
    structs += privacy.DESCRIBED if has_privacy else ()
    shapes, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    schemas = dict(components)
    paths: dict[str, Any] = {}
    for resource in resources:
        schemas |= schemas_of(resource, access)
        paths |= paths_of(resource, access)
    for endpoint, shape in zip(endpoints, shapes, strict=False):
        described = [parameter.described() for parameter in endpoint.takes]
        paths[endpoint.path] = {"get": _operation(endpoint.path, "analytics", endpoint.words, described, shape)}
    parts: dict[str, Any] = {"schemas": schemas, "responses": responses()}
    if has_api_keys:
        paths |= api_keys.described(partial(_for_whom, "api keys"))
        parts["securitySchemes"] = SCHEMES
    if has_privacy:
        paths |= privacy.described(partial(_for_whom, "privacy"))
    paths |= {f"/webhooks/{name}": {"post": _webhook(name)} for name in webhooks}
    fixed = _fixed_paths()
    for place, operations in (paths | fixed).items():
        is_figures = any(place == endpoint.path for endpoint in endpoints)
        if access.knows_callers and (is_figures or (access.is_closed and place in _CLOSED)):
            operations["get"]["responses"] |= {status: _refusal(status) for status in ("401", "403", "429")}
            if access.is_closed:
                operations["get"]["security"] = SECURITY
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Amounts are strings of decimal digits, exact at any size. Times are ISO 8601 in UTC with Z."
            " Errors are problem details (RFC 9457).",
        },
        "paths": paths | fixed | _admin_paths(),
        "components": parts,
    }


def _operation(path: str, tag: str, words: str, parameters: list[dict[str, Any]], shape: Any) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "headers": {"ETag": {"schema": {"type": "string"}}},
            "content": {"application/json": {"schema": shape}},
        }
    }
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for status, meaning in _PROBLEMS.items():
        responses[status] = {"description": meaning} | ({} if status == "304" else {"content": {MEDIA_TYPE: problem}})
    condition = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
    return {
        "operationId": path.strip("/").replace("/", "-").replace("{", "").replace("}", ""),
        "tags": [tag],
        "summary": words.partition(". ")[0].rstrip("."),
        "description": words,
        "parameters": [*parameters, condition],
        "responses": responses,
    }


_REFUSALS = {
    "400": "The body is no JSON object, or nested too deep.",
    "401": "Nobody is known by what was given.",
    "403": "It is known who asks, and this is not for him.",
    "404": "There is no such thing, or it is another's.",
    "409": "There are as many keys as there may be, or somebody else did something at the same time.",
    "413": "The body is too large.",
    "415": "The body is no `application/json`.",
    "422": "The body or a parameter is not what it must be.",
    "429": "Too many requests; `Retry-After` and `RateLimit` say when the next one passes.",
    "503": _PROBLEMS["503"],
}


def _webhook(name: str) -> dict[str, Any]:
    """What a provider sends."""
    problem = {"content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
    return {
        "operationId": f"webhook-{name}",
        "tags": ["webhooks"],
        "summary": f"An event of {name.capitalize()}, signed as it signs.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "200": {"description": "It was there already."},
            "202": {"description": "It is in the inbox."},
            "400": {"description": "It is not signed by whom it says, too old or too new, or no event."} | problem,
            "413": {"description": "It is too large."} | problem,
            "503": {"description": _PROBLEMS["503"]} | problem,
        },
    }


def _for_whom(
    tag: str, name: str, words: str, takes: list[dict[str, Any]], asked: Any, status: str, shape: Any
) -> dict[str, Any]:
    """An operation for who says who he is; `asked` and `shape` are the structs that it takes and answers."""
    problem = {"content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
    responses: dict[str, Any] = {
        status: {"description": "The answer.", "content": {"application/json": {"schema": ref(shape.__name__)}}}
    }
    responses |= {number: {"description": meaning} | problem for number, meaning in _REFUSALS.items()}
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "summary": words,
        "security": SECURITY,
        "parameters": takes,
        "responses": responses,
    }
    if asked is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(asked)),
            "content": {"application/json": {"schema": ref(asked.__name__)}},
        }
    return operation


_CLOSED = (PATH, "/health/database", "/metrics", "/v1/status", "/v1/journal", "/v1/stream", "/openapi.json")
"""What wants a key where reads are closed, beside resources and figures."""


def _refusal(status: str) -> dict[str, Any]:
    return {"description": _REFUSALS[status], "content": {MEDIA_TYPE: {"schema": ref("Problem")}}}


def _fixed_paths() -> dict[str, Any]:
    """What is the same whatever is exposed."""
    anything: dict[str, Any] = {"type": "object"}
    index = _operation(PATH, "resources", "Every resource with what can be asked of it.", [], anything)
    paths: dict[str, Any] = {PATH: {"get": index}}
    for path, tag, words, media_type in (
        ("/health", "health", "Whether this process and its database answer; 503 where the database does not.", None),
        ("/health/database", "health", "The database: latency, pools, journal position, pending migrations.", None),
        ("/metrics", "health", "Counters for Prometheus.", "text/plain"),
        ("/v1/status", "health", "Is everything as it must be, and if not, what to do.", None),
        ("/v1/journal", "journal", "Where the journal is, how far each follower is behind, the last changes.", None),
        ("/v1/stream", "journal", "Server-sent events: `journal`, `rollups`, `status`.", "text/event-stream"),
        ("/openapi.json", "description", "This document.", None),
    ):
        shape = {"type": "string"} if media_type else anything
        answered = {
            "200": {"description": "The answer.", "content": {media_type or "application/json": {"schema": shape}}}
        }
        problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
        answered["503"] = {"description": _PROBLEMS["503"], "content": {MEDIA_TYPE: problem}}
        name = path.strip("/").replace("/", "-").replace(".", "-")
        paths[path] = {"get": {"operationId": name, "tags": [tag], "summary": words, "responses": answered}}
    return paths


def _admin_paths() -> dict[str, Any]:
    """What only this machine may ask for."""
    paths: dict[str, Any] = {}
    for path, method, words, takes in (
        (
            "/metrics/redis",
            "get",
            "How the servers of Redis fare, what is wrong and what to do; 404 without one.",
            None,
        ),
        ("/admin/cache/metrics", "get", "How the cache is used: by key, tier, tag, endpoint and time; advice.", None),
        ("/admin/cache/clear", "post", "End values of the cache.", "Clear"),
        ("/admin/cache/test/performance", "get", "How far the tests of the cache are, and what they found.", None),
        ("/admin/cache/test/performance", "post", "Begin the tests; 409 while they run.", "Run"),
    ):
        done = "202" if takes == "Run" else "200"
        shapes = {"/metrics/redis": "RedisReport", "/admin/cache/metrics": "CacheReport"}
        shape = shapes.get(path, "Cleared" if takes == "Clear" else "Tested")
        problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        operation: dict[str, Any] = {
            "operationId": f"{method}-{path.strip('/').replace('/', '-')}",
            "tags": ["admin"],
            "summary": words,
            "responses": {
                done: {"description": "The answer.", "content": {"application/json": {"schema": ref(shape)}}},
                "403": {"description": "Asked from another machine, or for a page of another site."} | problem,
                "422": {"description": _PROBLEMS["422"]} | problem,
            },
        }
        if path == "/metrics/redis":
            operation["responses"]["404"] = {"description": "No Redis is configured."} | problem
        if takes is not None:
            operation["responses"] |= {
                status: {"description": _REFUSALS[status]} | problem for status in ("400", "415")
            }
            operation["requestBody"] = {"content": {"application/json": {"schema": ref(takes)}}}
        if path.endswith("metrics"):
            operation["parameters"] = [SPAN.described()]
        if takes == "Run":
            operation["responses"]["409"] = {"description": "They run already."} | problem
        paths.setdefault(path, {})[method] = operation
    return paths
