"""This module knows the functions of databases that only compute: they neither write nor lock."""

from __future__ import annotations

from sqlalchemy import TextClause
from sqlalchemy.sql.functions import FunctionElement

from unitwork._logic.sql.reading import readings

_AGGREGATES = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or count cume_dist dense_rank every first_value
group_concat grouping json_agg json_arrayagg json_group_array json_group_object json_object_agg
json_objectagg jsonb_agg jsonb_object_agg lag last_value lead max median min mode nth_value ntile
percent_rank percentile_cont percentile_disc rank row_number std stddev stddev_pop stddev_samp string_agg
sum total var_pop var_samp variance xmlagg
"""
_NUMBERS = """
abs acos asin atan atan2 ceil ceiling cos cot degrees div exp floor greatest least ln log log10 log2 mod pi
pow power radians rand random round sign sin sqrt tan trunc truncate width_bucket
"""
_TEXTS = """
ascii bit_length btrim char char_length character_length chr concat concat_ws convert decode encode field
find_in_set format hex initcap insert instr left length levenshtein like lcase locate lower lpad ltrim md5
octet_length ord overlay position printf quote quote_ident quote_literal quote_nullable regexp_count
regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim sha1 sha2 sha256 sha512 similarity
soundex space split_part starts_with strcmp string_to_array strpos substr substring substring_index to_hex
translate trim ucase unhex unicode unistr upper word_similarity
"""
_TIMES = """
adddate addtime age clock_timestamp convert_tz curdate current_date current_time current_timestamp curtime
date date_add date_bin date_format date_part date_sub date_trunc datediff datetime day dayname dayofmonth
dayofweek dayofyear extract from_days from_unixtime hour julianday last_day localtime localtimestamp
make_date make_interval make_time make_timestamp make_timestamptz makedate maketime microsecond minute month
monthname now period_add period_diff quarter sec_to_time second statement_timestamp str_to_date strftime
subdate subtime sysdate time time_format time_to_sec timediff timestamp timestampadd timestampdiff timezone
to_date to_days to_seconds to_timestamp transaction_timestamp unix_timestamp unixepoch utc_date utc_time
utc_timestamp week weekday weekofyear year yearweek
"""
_VALUES = """
array array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions
array_prepend array_remove array_replace array_to_json array_to_string array_upper cardinality cast coalesce
gen_random_uuid generate_series if ifnull iif inet_aton inet_ntoa isnull jsonb_array_elements
jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
jsonb_exists jsonb_extract_path jsonb_extract_path_text jsonb_object_keys jsonb_path_exists
jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_set
jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof json json_array json_array_elements
json_array_elements_text json_array_length json_build_array json_build_object json_contains
json_contains_path json_each json_each_text json_exists json_extract json_extract_path
json_extract_path_text json_insert json_keys json_length json_merge json_merge_patch json_object
json_object_keys json_overlaps json_query json_quote json_remove json_replace json_search json_serialize
json_set json_strip_nulls json_table json_to_record json_to_recordset json_tree json_type json_typeof
json_unquote json_valid json_value lower_inc lower_inf isempty multirange nullif num_nonnulls num_nulls
numnode plainto_tsquery phraseto_tsquery range_merge row row_to_json setweight strip to_char to_json
to_jsonb to_number to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd try_cast typeof unnest upper_inc
upper_inf uuid uuid_generate_v4 uuidv4 uuidv7 websearch_to_tsquery xmlelement xmlforest
"""
_SERVER = """
col_description connection_id current_catalog current_database current_role current_schema
current_schemas current_setting current_user currval database found_rows has_column_privilege
has_schema_privilege has_table_privilege inet_client_addr inet_client_port inet_server_addr
inet_server_port last_insert_id lastval nextval obj_description pg_backend_pid pg_column_size
pg_conf_load_time pg_current_xact_id pg_database_size pg_get_constraintdef pg_get_indexdef pg_get_viewdef
pg_indexes_size pg_is_in_recovery pg_last_wal_receive_lsn pg_last_wal_replay_lsn
pg_last_xact_replay_timestamp pg_lsn pg_postmaster_start_time pg_relation_size pg_size_pretty pg_sleep
pg_table_size pg_total_relation_size pg_typeof row_count schema session_user sleep to_regclass
txid_current user version
"""
_COMPUTES = frozenset(
    name for names in (_AGGREGATES, _NUMBERS, _TEXTS, _TIMES, _VALUES, _SERVER) for name in names.split()
)
_OF_THE_PRIMARY = frozenset(
    ["currval", "lastval", "last_insert_id", "nextval", "pg_current_xact_id", "txid_current"]
)
"""They neither write rows nor lock, and yet no replica has them: they count, or tell what was."""
_WORDS = """
ALL AND ANY AS BETWEEN BY CASE CROSS DISTINCT ELSE ESCAPE EXCEPT EXISTS FILTER FROM FULL GROUP HAVING
IN INNER INTERSECT INTERVAL IS JOIN LATERAL LIKE LIMIT MATERIALIZED NATURAL NOT OFFSET ON OR ORDER OVER
PARTITION RECURSIVE SELECT SETS SOME TABLE THEN UNION USING VALUES WHEN WHERE WITH WITHIN XOR
BIGINT BINARY BIT BLOB CHARACTER DECIMAL DOUBLE FLOAT INT INTEGER NUMERIC REAL SIGNED SMALLINT TEXT
TINYINT UNSIGNED VARBINARY VARCHAR VARYING
"""
_ANYWHERE = _COMPUTES - _OF_THE_PRIMARY
_BEFORE_PARENTHESES = frozenset(_WORDS.split())
"""What may stand before a parenthesis and is no function."""


def calls_what_may_write(part: object, dialect: str) -> bool:
    """Say whether a part of a statement, or SQL text, calls what may write or lock: what is not known.

    SQLite's functions are given to it by the program, and cannot write in the transaction that calls them.
    """
    return dialect != "sqlite" and _calls_beyond(part, dialect, _COMPUTES)


def calls_what_replicas_lack(part: object, dialect: str) -> bool:
    """Say whether a part of a statement, or SQL text, calls what no replica has, or may not have."""
    return _calls_beyond(part, dialect, _ANYWHERE)


def _calls_beyond(part: object, dialect: str, known: frozenset[str]) -> bool:
    if isinstance(part, FunctionElement):
        name = str(getattr(part, "name", "")).lower()
        return name not in known or bool(getattr(part, "packagenames", ()))
    text = part.text if isinstance(part, TextClause) else part
    return isinstance(text, str) and _text_calls_beyond(text, dialect, known)


def _text_calls_beyond(text: str, dialect: str, known: frozenset[str]) -> bool:
    if "(" not in text:
        return False
    return any(
        name.lower() not in known and name not in _BEFORE_PARENTHESES
        for reading in readings(text, dialect)
        for statement in reading.statements
        for name, behind in statement.pairs
        if behind == "(" and name.replace("_", "A").isalnum()
    )
