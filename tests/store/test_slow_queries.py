"""The slow-query log: the statement and its time, and none of its parameters."""

from tests.logs import capture_logs
from tests.store.opening import opened
from tests.store.shop import Base, Maker, Part

SECRET = "s3cr3t-v4lue"


async def test_every_statement_over_the_limit_is_logged_without_its_parameters(database_url: str) -> None:
    async with opened(database_url, Base.metadata, slow_query=1e-9) as store:
        with capture_logs() as logs:
            async with store.unit() as unit:
                await unit[Maker].add(Maker(name=SECRET))
                await unit[Maker].add_many([{"name": f"{SECRET} {number}"} for number in range(3)])
                await unit.execute("SELECT name FROM makers WHERE name = :name", {"name": SECRET})
                await unit[Maker].list(unit[Maker].query().where(name=SECRET))
                await unit[Part].upsert_many([{"title": SECRET}])
    told = [entry for entry in logs if entry["event"] == "slow_query"]
    statements = [entry["statement"] for entry in told]
    assert any(statement.startswith("INSERT INTO makers") for statement in statements)
    assert any(statement.startswith("SELECT name FROM makers WHERE name = ") for statement in statements)
    assert all(entry["seconds"] >= 0 and "\n" not in entry["statement"] for entry in told)
    assert SECRET not in repr(logs)


async def test_quick_statements_are_not_logged(database_url: str) -> None:
    async with opened(database_url, Base.metadata, slow_query=30) as store:
        with capture_logs() as logs:
            async with store.read() as unit:
                await unit[Maker].list()
    assert logs == []


async def test_zero_switches_the_log_off(database_url: str) -> None:
    async with opened(database_url, Base.metadata, slow_query=0) as store:
        with capture_logs() as logs:
            async with store.read() as unit:
                await unit[Maker].list()
    assert logs == []


async def test_a_slow_statement_is_logged_once(postgres_url: str) -> None:
    async with opened(postgres_url, slow_query=0.05) as store:
        for opening in (store.unit, store.read):
            with capture_logs() as logs:
                async with opening() as unit:
                    await unit.execute("SELECT pg_sleep(0.1)")
            (entry,) = logs
            assert entry["statement"] == "SELECT pg_sleep(0.1)"
            assert 0.1 <= entry["seconds"] < 5


async def test_a_bulk_statement_is_measured_by_the_row(database_url: str) -> None:
    async with opened(database_url, Base.metadata, slow_query=0.002) as store:
        with capture_logs() as logs:
            async with store.unit() as unit:
                await unit[Maker].add_many([{"name": f"{number}"} for number in range(2_000)])
                await unit[Part].upsert_many([{"title": f"{number}"} for number in range(2_000)])
    assert not [entry for entry in logs if "INSERT" in entry["statement"]]


async def test_a_very_long_statement_is_cut(sqlite_url: str) -> None:
    async with opened(sqlite_url, slow_query=1e-9) as store:
        with capture_logs() as logs:
            async with store.read() as unit:
                await unit.execute("SELECT '" + "x" * 3_000 + "'")
    assert max(len(entry["statement"]) for entry in logs) == 1_000
