"""Words that mean something in SQL: Postgres 18's own (pg_get_keywords) and those that sqlfluff refuses as an alias."""

from __future__ import annotations

_RESERVED = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both
    case cast char character check coalesce collate collation column commutator concurrently connect constraint
    create cross current_catalog current_date current_role current_schema current_time current_timestamp
    current_user dec decimal default deferrable desc distinct do else end except exists extract false fetch
    float for foreign freeze from full grant greatest group grouping hashes having ilike in initially inner
    inout int integer intersect interval into is isnull join json json_array json_arrayagg json_exists
    json_object json_objectagg json_query json_scalar json_serialize json_table json_value lateral leading least
    left like limit localtime localtimestamp merge_action merges minus national natural nchar negator none
    normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing
    position precision primary prior real references returning right rightarg row select session_user setof
    similar smallint some substring symmetric system_user table tablesample then time timestamp to trailing
    treat trim true union unique user using values varchar variadic verbose when where window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
_OTHERS = """
    abort absent absolute access account accounts action add admin after aggregate alias allow_connections also
    alter always apply asensitive assertion assignment at atomic attach attribute audit auto_increment
    avg_row_length backup backward before begin bernoulli bigserial binding bitvar bool box bpchar breadth break
    browse buffer_usage_limit buffers bulk by bypassrls bytea cache call called cascade cascaded catalog chain
    change characteristics checked checkpoint checksum cidr circle circularstring class close cluster clustered
    columns comment comments commit committed completion compoundcurve compress compression compute conditional
    configuration conflict connection constraints containstable content continue conversion copy correlation
    cost costs createdb createrole createuser csv cube current cursor curvepolygon cycle data database databases
    date daterange datetime day day_hour day_microsecond day_minute day_second dayofmonth dayofweek dayofyear
    days dbcc deallocate declare defaults deferred definer delay_key_write delayed delete delimiter delimiters
    deny dependencies depends depth describe destroy destructor detach deterministic dictionary disable
    disable_page_skipping discard disk distinctrow distributed div document domain double drop dummy dump each
    elseif empty enable enclosed encoding encrypted enforced enum errlvl error escape escaped event exclude
    excluding exclusive execute existing exit explain expression extended extension external family fields file
    fillfactor filter finalize first float4 float8 flush following force force_not_null force_null force_quote
    format forward freetext freetexttable fulltext function functions future generated generic_plan geography
    geometry geometrycollection geometrycollectionm geometrycollectionz geometrycollectionzm global granted
    grants groups handler hash header heap high_priority hold holdlock host hosts hour hour_microsecond
    hour_minute hour_second icu identified identity identity_insert identitycol if ignore immediate immutable
    implicit import imported include including increment indent index index_cleanup indexes inet infile infix
    inherit inherits initialize inline input insensitive insert insert_id instead int1 int2 int3 int4 int4range
    int8 int8range integration integrations invoker is_superuser is_template isam isolation iterate jsonb keep
    key keys kill label lancompiler language large last last_insert_id lc_collate lc_ctype leakproof leave
    leftarg less level libc line lineno lines linestring linestringm linestringz linestringzm list listen load
    local locale location lock locked locks log_verbosity logged login logs long longblob longtext loop
    low_priority lseg macaddr macaddr8 main manage mapping masking match matched materialized max_rows
    maxextents maxvalue mcv mediumblob mediumint mediumtext memory merge method middleint millisecond min_rows
    minute minute_microsecond minute_second minvalue ml mlslabel mode model modify modulus money monitor month
    monthname move multicurve multilinestring multilinestringm multilinestringz multilinestringzm multipoint
    multipointm multipointz multipointzm multipolygon multipolygonm multipolygonz multipolygonzm multisurface
    myisam name names nan ndistinct nested new next nfc nfd nfkc nfkd no no_write_to_binlog noaudit nobypassrls
    nocache nocheck nocompress nocreatedb nocreaterole nocreateuser nocycle noinherit nologin nonclustered
    noorder noreplication normalized nosuperuser nothing notify nowait nulls numrange object objects of off
    offline offsets oids old omit on_error online only_database_stats opendatasource openquery openrowset
    openxml operate operation operator optimize option optionally options ordinality others outfile over
    overriding overwrite owned owner ownership pack_keys parallel parameter parameters parser partial partition
    passing password path pctfree period permissive pg_lsn pipe plain plan plans point pointm pointz pointzm
    policy polygon polygonm polygonz polygonzm polyhedralsurface postfix preceding prefix preorder prepare
    prepared preserve print privileges proc procedural procedure procedures process process_main process_toast
    processlist program provider public publication purge qualify quarter quote quotes raid0 raiserror range raw
    read readtext reassign recheck reconfigure recursive ref reference_usage referencing refresh regexp reindex
    reject_limit relative release reload remainder rename repeat repeatable replace replica replication require
    reset resignal resource respect restart restrict restricted restrictive retrieve return returns revoke rlike
    role roles rollback rollup routine routines rowcount rowguidcol rowid rownum rows rule safe save savepoint
    scalar schema schemas scroll search second second_microsecond security separator sequence sequences serial
    serial2 serial4 serial8 serializable serialize server server_encoding server_version session set sets
    settings setuser share shares show shutdown signal silent simple skip skip_database_stats skip_locked
    smallserial snapshot soname source spatial sql sql_big_result sql_big_selects sql_big_tables
    sql_calc_found_rows sql_log_off sql_log_update sql_low_priority_updates sql_select_limit sql_small_result
    sql_warnings sqlca ssl stable stage stages standalone start starting starts statement statistics stdin
    stdout stop storage stored straight_join stream streams strict string strip sublist subscription successful
    summary superuser support synonym sysdate sysid system tables tablespace target task tasks temp template
    temporary terminate terminated text textsize than ties timestamptz timetz timing tin tinyblob tinyint
    tinytext toast top tran transaction transactions transform transient triangle trigger truncate trusted
    tsequal tsquery tsrange tstzrange tsvector type types uescape uid unbounded uncommitted unconditional undo
    unencrypted unknown unlisten unlock unlogged unsafe unsigned until update updatetext usage use use_any_role
    users utc_date utc_time utc_timestamp uuid vacuum valid validate validator value varchar2 varcharacter
    variable variables varying vector version view views virtual volatile waitfor wal warehouse warehouses week
    weekday while whitespace within without work wrapper write writetext x509 xml xor yaml year year_month yes
    zerofill zone
"""

RESERVED = frozenset(_RESERVED.split())
"""Words that cannot stand for a column without quotes, or not everywhere."""

KEYWORDS = RESERVED | frozenset(_OTHERS.split())
"""All of them: a column of such a name gets a better one in staging."""
