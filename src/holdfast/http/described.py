"""What `/openapi.json` says of resources: their rows, what may be written, who may, and every refusal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.guard.services import SIGNATURE
from holdfast.http.access import Access
from holdfast.http.bodies import JSON, MERGE_PATCH
from holdfast.http.exposed import Resource
from holdfast.http.finding import PATH
from holdfast.http.parameters import Parameter
from holdfast.http.problems import MEDIA_TYPE
from holdfast.http.settable import Settable
from holdfast.http.writes import KEY

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or the token of a session."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE,
        "description": "Of a service, beside the key or token for whom it asks, whose limits do not count then:"
        " `v1.KEY.SECONDS.NONCE.SIGNATURE`, HMAC-SHA256 of"
        " `v1|METHOD|path?query|sha256 of the body|SECONDS|NONCE|KEY` in hex. A nonce is used once.",
    },
}
SECURITY: list[dict[str, list[str]]] = [
    {"bearer": []},
    {"key": []},
    {"bearer": [], "signature": []},
    {"key": [], "signature": []},
]
"""Who says who he is, and whose limits do not count."""
REFUSALS = {
    "304": "The client has it already (`If-None-Match`).",
    "400": "The body is no JSON object, or nested too deep; or a header cannot be.",
    "401": "Nobody is known by what was given.",
    "403": "It is known who asks, and this is not for him.",
    "404": "There is nothing with this key.",
    "409": "A constraint would be broken, whose fields `errors` has; or the same request is being answered just now.",
    "412": "The row is not what `If-Match` names; or there is one already, and `If-None-Match` is `*`.",
    "413": "The body is too large.",
    "414": "The address is too long.",
    "415": "The body is of a type that is not taken.",
    "422": "A parameter or a field is unknown, or its value is not what it must be.",
    "428": "`If-Match` is missing.",
    "429": "Too many requests; `Retry-After` and `RateLimit` say when the next one passes.",
    "503": "The database cannot be reached; try again after `Retry-After` seconds.",
}
_LIMITS = ("RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_HEADERS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",), "412": ("ETag",)}
_READING = ("404", "414", "422", "503")
_CLOSED = ("401", "403", "429")
_WRITING = ("400", *_CLOSED, "409", "413", "414", "422", "503")
_TEXT = {"schema": {"type": "string"}}
_EXAMPLES = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "uuid": "01a1f9cb-1811-7000-8fbc-9c7e82e2b0f9",
    "decimal": "1",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "string": "1",
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of what you have: if it is that still, the answer is a 304 without it.",
    "schema": {"type": "string"},
}


def ref(name: str, kind: str = "schemas") -> dict[str, str]:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def responses() -> dict[str, Any]:
    """The components of `refused`."""
    problem = {"schema": ref("Problem")}
    found: dict[str, Any] = {}
    for status, words in REFUSALS.items():
        found[f"Refused{status}"] = response = {"description": words, "content": {MEDIA_TYPE: problem}}
        if status in _HEADERS:
            response["headers"] = dict.fromkeys(_HEADERS[status], _TEXT)
    found["Refused304"] = {"description": REFUSALS["304"], "headers": {"ETag": _TEXT}}
    return found


def refused(statuses: Iterable[str]) -> dict[str, Any]:
    """The refusals of an operation, by status."""
    return {status: ref(f"Refused{status}", "responses") for status in sorted(set(statuses))}


def paths_of(resource: Resource, access: Access) -> dict[str, Any]:
    """The operations of a resource, by address and method."""
    words = (resource.model.__doc__ or resource.name).strip().partition("\n")[0]
    place = f"{PATH}/{resource.name}"
    many: dict[str, Any] = {"get": _listing(resource, access, words)}
    one: dict[str, Any] = {"get": _reading(resource, access, words)}
    writes = access.writes(resource)
    if "create" in writes:
        many["post"] = _creating(resource, access, words)
    if "update" in writes:
        one["patch"] = _updating(resource, words)
    if "delete" in writes:
        one["delete"] = _deleting(resource, words)
    return {place: many, f"{place}/{{key}}": one}


def schemas_of(resource: Resource, access: Access) -> dict[str, Any]:
    """The schemas that `paths_of` refers to."""
    found: dict[str, Any] = {f"Row.{resource.name}": _row(resource)}
    writes, columns = access.writes(resource), resource.writing.columns
    properties = {name: column.described() for name, column in columns.items()}
    if "create" in writes:
        required = [name for name, column in columns.items() if column.required]
        found[f"Create.{resource.name}"] = _object(properties) | ({"required": required} if required else {})
    if "update" in writes:
        found[f"Patch.{resource.name}"] = _object(properties)
    return found


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _listing(resource: Resource, access: Access, words: str) -> dict[str, Any]:
    page = {
        "type": "object",
        "required": ["data", "next"],
        "properties": {
            "data": {"type": "array", "items": ref(f"Row.{resource.name}")},
            "next": {"type": ["string", "null"], "description": "The cursor of the following page; null on the last."},
            "total": {"type": "integer", "description": "Rows of all pages, where `total=true` asked for it."},
        },
    }
    listed = _parameters(resource.list_parameters.values())
    return _get(resource, access, f"v1-resources-{resource.name}", f"{words} One page of rows.", listed, page)


def _reading(resource: Resource, access: Access, words: str) -> dict[str, Any]:
    single = [_key(resource), *_parameters(resource.single_parameters)]
    by = f"{resource.name}.{'id or ' + resource.expose.key if resource.expose.key else 'id'}"
    name = f"v1-resources-{resource.name}-one"
    return _get(resource, access, name, f"{words} One row, by {by}.", single, _one(resource))


def _get(
    resource: Resource, access: Access, name: str, words: str, takes: list[dict[str, Any]], shape: Any
) -> dict[str, Any]:
    needs_key = access.needs_key(resource)
    statuses = ("304", *_READING, *(_CLOSED if access.knows_callers or _includes_closed(resource, access) else ()))
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": ["resources"],
        "summary": words.partition(". ")[0].rstrip("."),
        "description": words,
        "parameters": [*takes, IF_NONE_MATCH],
        "responses": {"200": _answer("The answer.", shape, ("ETag",), limits=needs_key), **refused(statuses)},
    }
    return _secured(operation, resource, "read") if needs_key else operation


def _includes_closed(resource: Resource, access: Access) -> bool:
    return any(access.needs_key(target) for target in resource.includes.values())


def _creating(resource: Resource, access: Access, words: str) -> dict[str, Any]:
    name, made = resource.name, _answer("It is made.", _one(resource), ("ETag", "Location"), limits=True)
    made["headers"]["Idempotency-Replayed"] = {"description": "`true`: it was made before.", **_TEXT}
    writes = access.writes(resource)
    followed = {"Get": f"v1-resources-{name}-one"}
    followed |= {"Patch": f"update-{name}"} if "update" in writes else {}
    followed |= {"Delete": f"delete-{name}"} if "delete" in writes else {}
    made["links"] = {
        f"{verb}It": {"operationId": operation, "parameters": {"path.key": "$response.body#/data/id"}}
        for verb, operation in followed.items()
    }
    takes = [
        {
            "name": KEY,
            "in": "header",
            "description": "Makes it safe to send the request again: for 24 hours the answer is the same.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        },
        {
            "name": "If-None-Match",
            "in": "header",
            "description": "`*`: only if no row has its unique values yet, else 412.",
            "schema": {"type": "string"},
        },
    ]
    content = {JSON: {"schema": ref(f"Create.{name}"), "example": example(resource.writing.columns.values())}}
    operation = {
        "operationId": f"create-{name}",
        "tags": ["resources"],
        "summary": f"Make one of {name}",
        "description": f"{words} Make one.",
        "parameters": takes,
        "requestBody": {"required": True, "content": content},
        "responses": {"201": made, **refused((*_WRITING, "412", "415"))},
    }
    return _secured(operation, resource, "create")


def _updating(resource: Resource, words: str) -> dict[str, Any]:
    name = resource.name
    content = {"schema": ref(f"Patch.{name}"), "example": example(resource.writing.columns.values(), most=1)}
    operation = {
        "operationId": f"update-{name}",
        "tags": ["resources"],
        "summary": f"Change one of {name}",
        "description": f"{words} Change what the body names (JSON merge patch, RFC 7396).",
        "parameters": [_key(resource), *_conditions(resource)],
        "requestBody": {"required": True, "content": {MERGE_PATCH: content, JSON: content}},
        "responses": {
            "200": _answer("The row as it is now.", _one(resource), ("ETag",), limits=True),
            **refused((*_WRITING, "404", "412", "415", *_must_match(resource))),
        },
    }
    return _secured(operation, resource, "update")


def _deleting(resource: Resource, words: str) -> dict[str, Any]:
    gone = {"description": "It is gone.", "headers": dict.fromkeys(_LIMITS, _TEXT)}
    operation = {
        "operationId": f"delete-{resource.name}",
        "tags": ["resources"],
        "summary": f"Delete one of {resource.name}",
        "description": f"{words} Delete one.",
        "parameters": [_key(resource), *_conditions(resource)],
        "responses": {"204": gone, **refused((*_WRITING, "404", "412", *_must_match(resource)))},
    }
    return _secured(operation, resource, "delete")


def _must_match(resource: Resource) -> tuple[str, ...]:
    return ("428",) if resource.expose.must_match else ()


def _conditions(resource: Resource) -> list[dict[str, Any]]:
    words = "The ETag of the row as you have seen it: if it is another now, the answer is 412."
    told: dict[str, Any] = {"name": "If-Match", "in": "header", "description": words, "schema": {"type": "string"}}
    if resource.expose.must_match:
        told["required"] = True
    return [told, {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}]


def _secured(operation: dict[str, Any], resource: Resource, kind: str) -> dict[str, Any]:
    """`operation`, which needs a key with a scope."""
    needed = f" Needs a key with the scope `{resource.scope_of(kind)}`."
    return {**operation, "description": operation["description"] + needed, "security": SECURITY}


def _answer(words: str, shape: Any, headers: Iterable[str], *, limits: bool) -> dict[str, Any]:
    named = dict.fromkeys((*headers, *(_LIMITS if limits else ())), _TEXT)
    return {"description": words, "headers": named, "content": {JSON: {"schema": shape}}}


def _one(resource: Resource) -> dict[str, Any]:
    return {"type": "object", "required": ["data"], "properties": {"data": ref(f"Row.{resource.name}")}}


def _key(resource: Resource) -> dict[str, Any]:
    key = resource.expose.key
    return {
        "name": "key",
        "in": "path",
        "required": True,
        "description": f"The row's id{' or ' + key if key else ''}.",
        "schema": {"type": "string", "minLength": 1},
    }


def _parameters(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    """Lists are comma-separated, which OpenAPI calls form style without explode; of one that can name nothing nothing
    is said."""
    found = []
    for parameter in parameters:
        described = parameter.described()
        if described["schema"].get("type") == "array":
            if described["schema"]["items"].get("enum", True) == []:
                continue
            described |= {"style": "form", "explode": False}
        found.append(described)
    return found


def example(columns: Iterable[Settable], most: int = 5) -> dict[str, Any]:
    """A body that may be sent: what must be given, else the first that may be."""
    columns = list(columns)
    chosen = [column for column in columns if column.required] or columns[:most]
    return {column.name: _value(column.schema) for column in chosen}


def _value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "contentEncoding" in schema:
        return "AP8="
    return _EXAMPLES.get(schema.get("format", "")) or _EXAMPLES.get(schema.get("type", ""), {})


def _row(resource: Resource) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, kind in resource.kinds.items():
        column = resource.columns[name]
        schema = dict(kind.schema)
        if column.nullable and "type" in schema:
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        if words := column.doc or column.comment:
            schema["description"] = words
        properties[name] = schema
    for name, target in resource.includes.items():
        shape = ref(f"Row.{target.name}")
        many = resource.is_list(name)
        properties[name] = {"type": "array", "items": shape} if many else {"anyOf": [shape, {"type": "null"}]}
    # `fields` may leave out any column but the id.
    return {"type": "object", "required": ["id"], "properties": properties, "additionalProperties": False}
