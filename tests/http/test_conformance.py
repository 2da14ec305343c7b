"""The answers are what `/openapi.json` says, whatever is asked: schemathesis with all of its checks."""

import pytest

from holdfast.http.writing import Writing
from tests.http.conformance import conforming

pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis' own


async def test_all_answers_are_as_they_are_described(sqlite_url: str) -> None:
    # `make fuzz` asks everything; what is left out here are addresses of this machine alone, and of other rooms.
    found = await conforming(sqlite_url, examples=2, seed=1, only=".* /v1/(resources|api-keys).*")
    assert found.failures == []
    assert found.requests > 1_000
    checks = {"not_a_server_error", "status_code_conformance", "response_schema_conformance", "negative_data_rejection"}
    assert checks | {"positive_data_acceptance", "ignored_auth", "use_after_free"} <= set(found.verdicts)


async def test_what_a_person_may_ask_for_himself_is_as_it_is_described(sqlite_url: str) -> None:
    # With a key of nobody's organisation: one of an organisation speaks for no person, and would see 403 alone.
    found = await conforming(sqlite_url, examples=3, seed=1, only=".* /v1/(privacy|api-keys).*", who="eve")
    assert found.failures == []
    assert found.requests > 200
    assert {"not_a_server_error", "positive_data_acceptance", "negative_data_rejection"} <= set(found.verdicts)


async def test_what_breaks_is_seen(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Writing.created

    def forgetful(self: Writing, given: dict[str, object]) -> dict[str, object]:
        if given.get("room") == 0:
            raise ZeroDivisionError
        return {"room": 5} if isinstance(given.get("room"), str) else taken(self, given)

    monkeypatch.setattr(Writing, "created", forgetful)
    found = await conforming(sqlite_url, examples=2, seed=1, only="(?i)post /v1/resources/desks")
    told = "\n".join(found.failures)
    assert "not_a_server_error" in told
    assert "negative_data_rejection" in told
