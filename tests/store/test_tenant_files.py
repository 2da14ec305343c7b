"""A file a tenant: opened lazily, bounded in number, closed when idle, named so that no tenant reaches another's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError, InvalidValue, Unavailable
from holdfast.settings import Settings
from holdfast.store import ALL, Store
from holdfast.store.tenant_files import TenantFiles, file_name
from tests.store.office import Base, Folder
from tests.store.opening import settings_for
from tests.store.shop import Base as ShopBase
from tests.store.shop import Maker

opened: list[str] = []


async def open_store(settings: Settings) -> Store:
    """A store with the tables of both."""
    opened.append(settings.database_url)
    store = Store(settings)
    async with store.connect(write=True) as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(ShopBase.metadata.create_all)
    return store


def files(folder: Path, **options: Any) -> TenantFiles[Store]:
    opened.clear()
    return TenantFiles(settings_for("sqlite://", pool_size=1, pool_timeout=0.2), folder / "t", open_store, **options)


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[TenantFiles[Store]]:
    made = files(tmp_path, most=3)
    yield made
    await made.close()


async def test_each_tenant_has_its_own_rows_and_its_context(tenants: TenantFiles[Store]) -> None:
    for tenant in ("acme", "other"):
        async with tenants.unit(tenant=tenant, actor="ada") as unit:
            await unit[Maker].add(Maker(name=f"of {tenant}"))
            folder = await unit[Folder].add(Folder(title="t"))
            assert (unit.actor, unit.tenant, folder.org) == ("ada", tenant, tenant)
    async with tenants.read(tenant="acme") as unit:
        assert [maker.name for maker in await unit[Maker].list()] == ["of acme"]
    assert [file.name for file in tenants.files()] == ["acme.db", "other.db"]
    assert tenants.file("acme") == tenants.files()[0]
    assert len(opened) == 2


async def test_no_more_than_so_many_are_open_and_the_least_used_goes_first(tenants: TenantFiles[Store]) -> None:
    for tenant in ("a", "b", "c", "a", "d"):
        async with tenants.unit(tenant=tenant) as unit:
            await unit[Maker].add(Maker(name=f"{len(opened)}"))
            assert len(tenants) <= 3
    assert len(opened) == 4
    for tenant in ("a", "c", "d"):
        async with tenants.read(tenant=tenant):
            assert len(opened) == 4
    async with tenants.read(tenant="b") as unit:
        assert await unit[Maker].count() == 1
    assert len(opened) == 5


async def test_who_comes_when_all_are_in_use_waits_for_one(tenants: TenantFiles[Store]) -> None:
    leave = asyncio.Event()

    async def hold(tenant: str) -> None:
        async with tenants.unit(tenant=tenant):
            await leave.wait()

    holding = [asyncio.create_task(hold(tenant)) for tenant in "abc"]
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match=r"all 3 files .* are in use; raise most, or end units sooner"):
        async with tenants.unit(tenant="d"):
            raise AssertionError("the block is not entered")
    waiting = asyncio.create_task(hold("d"))
    await asyncio.sleep(0.01)
    leave.set()
    await asyncio.gather(*holding, waiting)
    assert len(tenants) <= 3


async def test_many_tasks_of_many_tenants_lose_nothing(tmp_path: Path) -> None:
    tenants = files(tmp_path, most=4)

    async def work(number: int) -> None:
        async with tenants.database(f"t{number % 9}") as store, store.unit() as unit:
            await unit[Maker].add(Maker(name=f"{number}"))

    tenants.settings = settings_for("sqlite://", pool_size=1)
    await asyncio.gather(*(work(number) for number in range(90)))
    for number in range(9):
        async with tenants.read(tenant=f"t{number}") as unit:
            assert await unit[Maker].count() == 10
    await tenants.close()
    assert len(tenants) == 0


async def becomes(tenants: TenantFiles[Store], number: int) -> None:
    async with asyncio.timeout(5):
        while len(tenants) > number:  # noqa: ASYNC110  the sweeper tells nobody
            await asyncio.sleep(0.01)


async def test_what_nobody_uses_is_closed(tmp_path: Path) -> None:
    tenants = files(tmp_path, idle=0.02)
    async with tenants.unit(tenant="a"):
        async with tenants.unit(tenant="b"):
            pass
        await becomes(tenants, 1)
    await becomes(tenants, 0)
    async with tenants.read(tenant="a") as unit:
        assert await unit[Maker].count() == 0
    await tenants.close()
    with pytest.raises(Unavailable, match="is being closed"):
        async with tenants.unit(tenant="a"):
            raise AssertionError("the block is not entered")


async def test_an_opening_that_fails_is_tried_again(tmp_path: Path) -> None:
    tenants = files(tmp_path)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.db").write_text("this is no database, and long enough to be seen as none" * 20)
    for _ in range(2):
        with pytest.raises(HoldfastError, match="no usable SQLite database"):
            async with tenants.unit(tenant="a"):
                raise AssertionError("the block is not entered")
        assert len(tenants) == 0
    (tmp_path / "t" / "a.db").unlink()
    async with tenants.unit(tenant="a"):
        pass
    await tenants.close()


async def test_a_tenant_without_a_file_gets_one_only_where_that_is_meant(tmp_path: Path) -> None:
    tenants = files(tmp_path, create=False)
    with pytest.raises(Unavailable, match="the tenant 'nobody' has no file"):
        async with tenants.unit(tenant="nobody"):
            raise AssertionError("the block is not entered")
    assert tenants.files() == []


@pytest.mark.parametrize("tenant", ["", " a", "a\0", "x" * 256, None, ALL, 5])
async def test_what_can_be_no_tenant_has_no_file(tenants: TenantFiles[Store], tenant: Any) -> None:
    with pytest.raises(InvalidValue):
        async with tenants.unit(tenant=tenant):
            raise AssertionError("the block is not entered")


@pytest.mark.parametrize(
    ("tenant", "name"),
    [
        ("acme-1_b", "acme-1_b"),
        ("Acme", "~41cme"),
        ("..", "~2e~2e"),
        ("../../etc/passwd", "~2e~2e~2f~2e~2e~2fetc~2fpasswd"),
        ("C:\\x", "~43~3a~5cx"),
        ("a~b", "a~7eb"),
        ("ü", "~c3~bc"),
    ],
)
def test_names_are_safe_on_every_file_system(tenant: str, name: str) -> None:
    assert file_name(tenant) == name


visible = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=255)


@given(visible, visible)
def test_no_two_tenants_share_a_file(one: str, other: str) -> None:
    names = [file_name(one), file_name(other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert len(name) <= 130
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-~")
