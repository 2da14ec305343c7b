"""Bases of apps: each with names of its own."""

from uuid import UUID

from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column, relationship

from holdfast import Model


class First(Model):
    __abstract__ = True
    metadata = MetaData()


class Second(Model):
    __abstract__ = True
    metadata = MetaData()


def test_models_of_one_name_in_two_apps_are_kept_apart() -> None:
    class Author(First):
        __tablename__ = "authors"
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(First):
        __tablename__ = "books"
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id"))
        author: Mapped["Author"] = relationship(back_populates="books")

    first = Author, Book

    class Author(Second):  # type: ignore[no-redef]
        __tablename__ = "authors"
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(Second):  # type: ignore[no-redef]
        __tablename__ = "books"
        author_id: Mapped[UUID] = mapped_column(ForeignKey("authors.id"))
        author: Mapped["Author"] = relationship(back_populates="books")

    configure_mappers()
    for author, book in (first, (Author, Book)):
        assert author(books=[book()]).books[0].author.__class__ is author
        assert author.__mapper__.relationships["books"].entity.class_ is book


def test_a_base_that_only_adds_columns_shares_its_apps_names() -> None:
    class Noted(First):
        __abstract__ = True
        note: Mapped[str]

    assert Noted.registry is First.registry is not Second.registry
    assert Noted.metadata is First.metadata
