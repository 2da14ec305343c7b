"""`Searchable`: full-text search over columns of a model, asked for in the same words on every backend."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Enum,
    Float,
    String,
    Table,
    bindparam,
    event,
    false,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from holdfast.errors import InvalidValue, ModelError
from holdfast.model import Aspect, Model, refuse_encrypted, require_columns
from holdfast.store import search_index
from holdfast.store.keys import key_of
from holdfast.store.search_index import SearchIndex, vector

# https://www.postgresql.org/docs/current/textsearch-dictionaries.html: those that every PostgreSQL has since 14
_LANGUAGES = {
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian",
    "lithuanian", "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "simple",
    "spanish", "swedish", "tamil", "turkish", "yiddish",
}  # fmt: skip
_CLASSES = "ABCD"
_LONGEST = 500  # characters of a search; a word of PostgreSQL has at most 2,046 bytes
_TERM = re.compile(r'(?P<not>-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


class Searchable(Aspect):
    """Makes the rows of a model be found by words: `Query(Note).search("hold fast")`.

    It needs nothing of the journal, and raw SQL that writes rows counts. A column may be private; a copy of its text is
    kept in the same database on SQLite. Secret and encrypted ones are refused.

    Args:
        columns: of text; what is searched.
        weights: for each column how much a word in it counts for relevance, at most four different ones; all the same
            by default.
        language: `simple` finds words as they are written, in upper or lower case. Another brings words to their stem,
            as PostgreSQL's configuration of that name does; SQLite does so for `english` alone.

    Example::

        class Note(Model):
            __policy__ = Policy(Searchable("title", "text", weights=(3, 1)))
    """

    def __init__(self, *columns: str, weights: tuple[float, ...] = (), language: str = "simple") -> None:
        self.columns = columns
        self.weights = tuple(weights) or (1.0,) * len(columns)
        self.language = language
        if not columns or len(set(columns)) < len(columns):
            raise ModelError(f"Searchable{columns!r} takes the columns to search, each once")
        if language not in _LANGUAGES:
            raise ModelError(f"Searchable(language={language!r}): there are {', '.join(sorted(_LANGUAGES))}")
        if len(self.weights) != len(columns):
            raise ModelError(f"Searchable(weights={weights!r}) must have a number for each of {', '.join(columns)}")
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise ModelError(f"Searchable(weights={weights!r}): a weight is a number above 0")
        if len(set(self.weights)) > len(_CLASSES):
            raise ModelError(f"Searchable(weights={weights!r}): PostgreSQL tells four different weights apart")

    def check(self, model: type[Any]) -> None:
        """Raise `ModelError` where a column is none of text or not to be searched."""
        table: Table = model.__table__
        where = f"{model.__name__}: Searchable(…)"
        if sum(isinstance(aspect, Searchable) for aspect in model.__policy__.aspects) > 1:
            raise ModelError(f"{model.__name__} has two Searchable(…); name all columns in one")
        if table.schema is not None:
            raise ModelError(
                f"{model.__name__}: Searchable(…) keeps to the application's own schema; leave `schema` out"
            )
        require_columns(model, self.columns, "Searchable(…)")
        refuse_encrypted(model, self.columns, "Searchable(…)")
        for name in self.columns:
            kind: Any = table.columns[name].type
            plain = getattr(kind, "impl_instance", kind)
            if not isinstance(plain, String) or isinstance(plain, Enum):
                raise ModelError(
                    f"{model.__name__}: Searchable(…) names {name!r}, which is {kind!r}; only text is searched"
                )
            if name in model.__policy__.secret:
                raise ModelError(f"{where} names {name!r}, which the policy keeps secret")
        index = self.index(model)
        event.listen(table, "after_create", lambda table, connection, **_: search_index.create(connection, index))
        event.listen(table, "before_drop", lambda table, connection, **_: search_index.drop(connection, index))

    def index(self, model: type[Any]) -> SearchIndex:
        """What the database keeps for it."""
        heaviest = sorted(set(self.weights), reverse=True)
        classes = "".join(_CLASSES[heaviest.index(weight)] for weight in self.weights)
        return SearchIndex(str(model.__tablename__), self.columns, classes, self.language)


def search_indexes(models: Iterable[type[Model]]) -> list[SearchIndex]:
    """What the database keeps for the models that are `Searchable`."""
    found = ((model, model.__policy__.aspect(Searchable)) for model in models)
    return [aspect.index(model) for model, aspect in found if aspect is not None]


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for: phrases of one word or several, all of them; and those that a row must not have."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Words:
        """Read `words "and phrases" -without -"these"`; every other sign stands between words.

        Raises:
            InvalidValue: it is no text, or too long.
        """
        if not isinstance(text, str):
            raise InvalidValue(f"a search is a text, not {type(text).__name__}")
        if len(text) > _LONGEST:
            raise InvalidValue(f"a search has at most {_LONGEST} characters, not {len(text):,}; leave some words out")
        wanted: list[str] = []
        unwanted: list[str] = []
        for term in _TERM.finditer(text):
            words = " ".join(_words(term["phrase"] or term["word"] or ""))
            if words:
                (unwanted if term["not"] else wanted).append(words)
        return cls(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(unwanted)))

    def for_postgres(self) -> str:
        """As websearch_to_tsquery reads it. All is quoted: `or` would else be an operator."""
        return " ".join([*(f'"{words}"' for words in self.wanted), *(f'-"{words}"' for words in self.unwanted)])

    def for_sqlite(self) -> str:
        """As FTS5 reads it."""
        wanted = " AND ".join(f'"{words}"' for words in self.wanted)
        unwanted = " OR ".join(f'"{words}"' for words in self.unwanted)
        return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def _words(text: str) -> Iterator[str]:
    """The words of `text`: runs of letters, digits and marks."""
    yield from "".join(sign if unicodedata.category(sign)[0] in "LNM" else " " for sign in text).split()


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What a query looks for in a model."""

    model: type[Model]
    aspect: Searchable
    words: Words

    @classmethod
    def of(cls, model: type[Model], text: str) -> Search:
        """`text`, looked for in `model`.

        Raises:
            InvalidValue: the model is not `Searchable`, or the text is too long.
        """
        aspect = model.__policy__.aspect(Searchable)
        if aspect is None:
            raise InvalidValue(f"{model.__name__} cannot be searched; declare it with Policy(Searchable(…))")
        return cls(model, aspect, Words.parse(text))

    def condition(self) -> ColumnElement[bool]:
        """That a row is found. Without a word to look for none is."""
        return _Matches(self) if self.words.wanted else false()

    def ranking(self) -> list[Any]:
        """ORDER BY terms: the most relevant first; the key breaks ties."""
        best = [_Relevance(self).desc()] if self.words.wanted else []
        return [*best, *(getattr(self.model, name) for name in key_of(self.model).names)]


class _BoundWords(TypeDecorator[Words]):
    """`Words` as the backend wants them."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Words | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return value.for_postgres() if dialect.name == "postgresql" else value.for_sqlite()


class _OfSearch(FunctionElement[Any]):
    """What is asked of a search in SQL."""

    inherit_cache = True  # the name of the index and the weights, being among the clauses, tell two searches apart

    def __init__(self, search: Search) -> None:
        table: Table = search.model.__table__  # type: ignore[assignment]
        self.index = search.aspect.index(search.model)
        self.weights = search.aspect.weights
        key = list(table.primary_key.columns)
        super().__init__(
            literal_column(f"{self.index.name} {self.weights}"),
            *(table.columns[name] for name in self.index.columns),
            *key,
            bindparam(None, search.words, type_=_BoundWords(), unique=True),
        )

    def words(self, compiler: Any, options: Any) -> str:
        """The words, bound."""
        return str(compiler.process(list(self.clauses)[-1], **options))

    def keys(self, compiler: Any, options: Any) -> list[str]:
        """The columns of the key."""
        count = len(self.index.columns)
        return [compiler.process(column, **options) for column in list(self.clauses)[1 + count : -1]]

    def asked(self, compiler: Any, options: Any) -> tuple[str, str]:
        """On PostgreSQL: what is indexed, and what is looked for there."""
        count = len(self.index.columns)
        columns = [compiler.process(column, **options) for column in list(self.clauses)[1 : 1 + count]]
        words = f"websearch_to_tsquery('{self.index.language}'::regconfig, {self.words(compiler, options)})"
        return vector(self.index, columns), words

    def found(self, compiler: Any, options: Any) -> str:
        """On SQLite: the FTS5 table beside the keys of its rows, only what is found."""
        quote = compiler.preparer.quote
        name, numbers = quote(self.index.name), quote(self.index.keys)
        return (
            f"FROM {name} JOIN {numbers} ON {numbers}.number = {name}.rowid"
            f" WHERE {name} MATCH {self.words(compiler, options)}"
        )


class _Matches(_OfSearch):
    """Whether a row is found. It has no type: of a Boolean it is asked on SQLite whether it `= 1`, past all indexes."""

    inherit_cache = True


class _Relevance(_OfSearch):
    """How well a row that is found fits: more is better, and nothing else is to be read from the number."""

    inherit_cache = True
    type = Float()


@compiles(_Matches, "postgresql")
def _matches_on_postgres(element: _Matches, compiler: Any, **options: Any) -> str:
    indexed, words = element.asked(compiler, options)
    return f"(({indexed}) @@ {words})"


@compiles(_Matches, "sqlite")
def _matches_on_sqlite(element: _Matches, compiler: Any, **options: Any) -> str:
    keys = element.keys(compiler, options)
    found = ", ".join(f"k{number}" for number in range(len(keys)))
    left = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
    return f"({left} IN (SELECT {found} {element.found(compiler, options)}))"


@compiles(_Relevance, "postgresql")
def _relevance_on_postgres(element: _Relevance, compiler: Any, **options: Any) -> str:
    indexed, words = element.asked(compiler, options)
    # Of the classes D to A; none is above 1.
    by_class = dict(zip(element.index.weights, element.weights, strict=True))
    shares = ", ".join(f"{by_class.get(name, 0) / max(element.weights):g}" for name in reversed(_CLASSES))
    return f"ts_rank('{{{shares}}}', {indexed}, {words})"


@compiles(_Relevance, "sqlite")
def _relevance_on_sqlite(element: _Relevance, compiler: Any, **options: Any) -> str:
    keys = element.keys(compiler, options)
    names = [f"k{number}" for number in range(len(keys))]
    name = compiler.preparer.quote(element.index.name)
    weights = ", ".join(f"{weight:g}" for weight in element.weights)
    same = " AND ".join(f"found.{mine} = {key}" for mine, key in zip(names, keys, strict=True))
    # Computed once for all rows: asked row by row, FTS5 would count all its words again for each.
    return (
        f"(WITH found AS MATERIALIZED (SELECT {', '.join(names)}, -bm25({name}, {weights}) AS relevance"  # noqa: S608
        f" {element.found(compiler, options)}) SELECT relevance FROM found WHERE {same})"
    )
