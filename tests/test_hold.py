"""`Holdfast.open`: what is kept, and what is asked for twice."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped

from holdfast import Expose, Holdfast, Model, Policy, Settings
from holdfast.errors import ConfigurationError, Unavailable
from holdfast.model import NAMING


class Kept(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Other(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Letter(Kept):
    __tablename__ = "letters"
    __policy__ = Policy(Expose(), private=("sender",), secret=("stamp",))
    sender: Mapped[str]
    stamp: Mapped[str]
    text: Mapped[str]


class Parcel(Other):
    __tablename__ = "parcels"
    weight: Mapped[int]


async def test_the_models_of_several_metadatas_are_kept_together(sqlite_url: str) -> None:
    metadata = (Kept.metadata, Other.metadata)
    async with await Holdfast.open(sqlite_url, metadata=metadata) as hold:
        assert hold.models == [Letter, Parcel]
        assert not await hold.pending()
        async with hold.unit() as unit:
            unit.add(Parcel(weight=2), Letter(sender="ada", stamp="x", text="hold fast"))
        status = await hold.journal.status()
        assert status.position != "0-0-0"


@pytest.mark.parametrize("more", [{"url": "sqlite:///x.db"}, {"pool_size": 3}])
async def test_settings_and_single_ones_together_are_refused(sqlite_url: str, more: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        await Holdfast.open(settings=Settings(database_url=sqlite_url), **more)  # type: ignore[arg-type]


async def test_without_migrating_a_file_that_is_not_there_is_not_made(sqlite_url: str) -> None:
    hold = Holdfast(Settings(database_url=sqlite_url), metadata=Kept.metadata)
    with pytest.raises(Unavailable, match="make it with `holdfast migrate up`"):
        await hold.start(migrate=False)
    assert hold.store.file is not None
    assert not hold.store.file.exists()


def test_what_is_private_is_shown_only_where_it_is_named() -> None:
    assert Letter.__policy__.aspect(Expose) is not None
    assert Expose().shown(Letter) == ("id", "text")
    assert Expose(fields=("sender", "text")).shown(Letter) == ("id", "sender", "text")


def test_the_http_face_brings_no_models_along() -> None:
    code = "import holdfast.http; from holdfast import Model; print(sorted(Model.metadata.tables))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
