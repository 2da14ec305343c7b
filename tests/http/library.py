"""Models of a small library, with a column of every kind that a resource can show."""

import datetime as dt
from uuid import UUID

from sqlalchemy import Enum, Float, ForeignKey, LargeBinary, MetaData, Numeric
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast import Amount, Expose, Model, Policy
from holdfast.model import NAMING


class LibraryModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Shelf(LibraryModel):
    """A shelf and where it stands."""

    __tablename__ = "library_shelves"
    __policy__ = Policy(Expose(name="shelves", filters=("room",), sort=("room",), include=("books",), key="room"))

    room: Mapped[int] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="shelf")


class Book(LibraryModel):
    """A book."""

    __tablename__ = "library_books"
    __policy__ = Policy(
        Expose(
            name="books",
            filters=("title", "pages", "rating", "worth", "lent", "printed", "state", "shelf_id", "price"),
            sort=("title", "pages", "rating", "worth", "printed"),
            include=("shelf",),
        ),
        secret=("note",),
    )

    title: Mapped[str] = mapped_column(doc="As it stands on the cover.")
    pages: Mapped[int]
    rating: Mapped[float | None] = mapped_column(Float)
    worth: Mapped[int] = mapped_column(Amount())
    price: Mapped[float | None] = mapped_column(Numeric(12, 2))
    lent: Mapped[bool]
    printed: Mapped[dt.datetime | None]
    state: Mapped[str | None] = mapped_column(Enum("new", "used", name="library_state", native_enum=False))
    cover: Mapped[bytes | None] = mapped_column(LargeBinary)
    note: Mapped[str | None]
    shelf_id: Mapped[UUID | None] = mapped_column(ForeignKey("library_shelves.id"))
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")


class Loan(LibraryModel):
    """Who has borrowed what: each reader's own affair."""

    __tablename__ = "library_loans"
    __policy__ = Policy(Expose(name="loans"), tenant="reader")

    reader: Mapped[str]
    title: Mapped[str]


class Ledger(LibraryModel):
    """Nobody's business."""

    __tablename__ = "library_ledger"

    line: Mapped[str]
