"""The API description is valid, complete, and true of the answers."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.http.agents import agents_client

Client = tuple[httpx.AsyncClient, dict[str, Any]]


@pytest.fixture
async def described(sqlite_url: str) -> AsyncIterator[Client]:
    """A client of the agents app, and its description."""
    async with agents_client(sqlite_url) as (_, client):
        yield client, (await client.get("/openapi.json")).json()


async def test_the_description_is_valid_openapi(described: Client, books: httpx.AsyncClient) -> None:
    validate(described[1])
    assert described[1]["openapi"].startswith("3.1")
    validate((await books.get("/openapi.json")).json())


async def test_every_resource_and_endpoint_is_in_it_and_every_path_answers(described: Client) -> None:
    client, document = described
    resources = (await client.get("/v1/resources")).json()["data"]
    assert {r["href"] for r in resources} <= set(document["paths"])
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for path, methods in document["paths"].items():
        if "get" not in methods:
            assert (await client.get(path)).status_code == 405, path
            continue
        if path == "/v1/stream":
            answer = await client.head(path)
        elif "{key}" in path:
            rows = (await client.get(path.replace("/{key}", ""))).json()["data"]
            if not rows:
                continue
            answer = await client.get(path.replace("{key}", rows[0]["id"]))
        else:
            answer = await client.get(path)
        if path == "/metrics/redis":
            assert answer.status_code == 404  # there is none here
            continue
        assert answer.status_code == 200, path
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in document["paths"][path]["get"]["responses"]["200"]["content"], path


async def test_answers_have_the_described_shape(described: Client) -> None:
    client, document = described
    for path, operations in document["paths"].items():
        if not path.startswith(("/v1/resources/", "/v1/analytics/")) or "{key}" in path:
            continue
        query = {"limit": "100"} if any(p["name"] == "limit" for p in operations["get"]["parameters"]) else {}
        answer = await client.get(path, params=query)
        schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": document["components"]})
        assert [error.message for error in validator.iter_errors(answer.json())] == [], path
        wrong = validator.iter_errors({"data": [{"surprise": 1}]})
        assert list(wrong), f"{path}: the shape refuses nothing"


async def test_a_problem_has_the_described_shape(described: Client) -> None:
    client, document = described
    problem = (await client.get("/v1/analytics/volume?period=hour")).json()
    validator = Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": document["components"]})
    assert list(validator.iter_errors(problem)) == []


async def test_every_described_parameter_is_taken_and_no_other(described: Client) -> None:
    client, document = described
    examples = {"string": "x", "integer": "1", "number": "1", "boolean": "true", "array": ""}
    formats = {"date-time": "2026-01-01", "date": "2026-01-01", "uuid": "01a1f9cb-1811-7000-8fbc-9c7e82e2b0f9"}
    for path, operations in document["paths"].items():
        if "{key}" in path:
            continue
        for parameter in operations.get("get", {}).get("parameters", []):
            if parameter["in"] != "query" or parameter["name"] == "after":
                continue
            schema = parameter["schema"]
            words = schema.get("enum") or schema.get("items", {}).get("enum")
            if schema["type"] == "array" and not words:
                continue  # nothing can be named
            value = words[0] if words else formats.get(schema.get("format", "")) or examples[schema["type"]]
            if schema.get("pattern"):
                value = "1"
            elif parameter["name"].endswith("[in]"):
                column = parameter["name"].partition("[")[0]
                value = next(
                    formats.get(p["schema"].get("format", ""), "1")
                    for p in operations["get"]["parameters"]
                    if p["name"] == column
                )
                value = (
                    "true" if column in ("x402_enabled", "is_verified", "claimed", "successful", "payment") else value
                )
            answer = await client.get(path, params={parameter["name"]: value})
            assert answer.status_code == 200, (path, parameter["name"], answer.text)
        refused = await client.get(path, params={"surprise": "1"})
        expected = 422 if "get" in operations else 405
        assert refused.status_code == expected or path == "/v1/stream", path


async def test_no_secret_and_no_rows_of_tenants_are_described(books: httpx.AsyncClient) -> None:
    text = (await books.get("/openapi.json")).text
    assert "note" not in re.findall(r'"(\w+)":', text)
    assert "loans" not in text
    assert "As it stands on the cover." in text
