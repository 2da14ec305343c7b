"""Whether a column default is computed once for the whole table, or for every row of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from holdfast.migrate.lint.tokens import Token

# Built-in functions that are not volatile (pg_proc.provolatile); of any other nothing is known, so it is taken
# for volatile, as PostgreSQL takes a function that does not say.
_STEADY_NAMES = """
now transaction_timestamp statement_timestamp current_setting current_database current_schema current_schemas
current_query version pg_backend_pid inet_client_addr txid_current pg_current_xact_id session_user user
timezone date_trunc date_part date_bin extract age to_timestamp to_date to_char to_number make_date make_time
make_timestamp make_timestamptz make_interval justify_days justify_hours justify_interval isfinite abs ceil
ceiling floor round trunc sign sqrt power exp ln log mod div pi degrees radians greatest least coalesce nullif
cast row array values in any all some not and or exists overlay position lower upper initcap length
char_length character_length octet_length bit_length concat concat_ws format left right lpad rpad ltrim rtrim
btrim trim replace translate repeat reverse split_part substring substr strpos starts_with regexp_replace
regexp_match regexp_split_to_array ascii chr quote_ident quote_literal quote_nullable md5 sha224 sha256 sha384
sha512 digest encode decode convert convert_from convert_to to_hex string_to_array array_to_string
array_append array_prepend array_cat array_fill array_length array_remove array_replace cardinality
json_build_object json_build_array jsonb_build_object jsonb_build_array json_object jsonb_object to_json
to_jsonb row_to_json jsonb_set jsonb_insert jsonb_strip_nulls jsonb_pretty int4range int8range numrange
tsrange tstzrange daterange int4multirange nummultirange datemultirange isempty to_tsvector to_tsquery
plainto_tsquery phraseto_tsquery setweight host network masklen inet_merge point box line lseg path polygon
circle hstore st_point st_setsrid st_geomfromtext st_geogfromtext bigint integer int smallint int2 int4 int8
numeric decimal text varchar char bool boolean float float4 float8 real date time timetz timestamp timestamptz
interval uuid_nil current_timestamp current_date current_time localtime localtimestamp
"""
_BEFORE_A_TYPE = ("::", "as")  # varchar(10) after these is no call
_END = Token("symbol", "", -1, "")
_STEADY = frozenset(_STEADY_NAMES.split())


def volatile_call(default: Sequence[Token]) -> str | None:
    """The first function in a default that gives another value for every row, or None.

    Raises nothing; a function that is not known is taken for volatile.
    """
    before = ""
    for token, after in pairwise((*default, _END)):
        called = after.text == "(" and after.kind == "symbol" and token.kind in ("word", "quoted")
        if called and before not in _BEFORE_A_TYPE and token.value not in _STEADY:
            return token.text
        before = token.value
    return None
