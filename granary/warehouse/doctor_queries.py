"""The queries of `granary.warehouse.doctor`, for Postgres 14 and later; without superuser."""

OURS = "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"

STEPS = """
    with aged as (
        select
            name, kind, seconds, run_id, is_full, finished_at,
            row_number() over (partition by name order by finished_at desc) as age
        from ops.steps
        where kind in ('load', 'model', 'seed', 'snapshot', 'test') and status in ('succeeded', 'warned')
    ),

    -- Full refreshes are compared with full refreshes, increments with increments.
    last as (select * from aged where age = 1),

    earlier as (
        select last.name, percentile_cont(0.5) within group (order by aged.seconds) as median, count(*) as runs
        from last
        inner join aged
            on last.name = aged.name and last.is_full = aged.is_full and aged.age between 2 and 11
        group by last.name
    )

    select
        last.name, last.kind, last.seconds,
        case when earlier.runs >= 3 then earlier.median end as median,
        last.seconds / nullif(sum(last.seconds) over (), 0) as share
    from last
    left join earlier on last.name = earlier.name
    -- What is no longer run is no longer slow.
    where last.finished_at > (select max(finished_at) from last) - interval '7 days'
    order by last.seconds desc
"""

SINCE = """
    select coalesce('since ' || to_char(stats_reset at time zone 'UTC', 'YYYY-MM-DD'), 'since the server counts')
    from pg_stat_database
    where datname = current_database()
"""

# Unique indexes are constraints, and the raw tables' index by load is what replaces a unit. A table that was never read
# says nothing of its indexes. What a model declares is on the table that is built and on the one that is published, or
# on each of its partitions: it is unused if all are.
UNUSED = f"""
    select
        string_agg(distinct names.oid::regclass::text, ', '),
        string_agg(distinct c.oid::regclass::text, ', '),
        sum(pg_relation_size(used.indexrelid))::bigint,
        case when count(distinct c.oid) > 1 then c.relname::text end
    from pg_stat_user_indexes as used
    inner join pg_class as c on c.oid = coalesce(pg_partition_root(used.relid), used.relid)
    inner join pg_class as names on names.oid = coalesce(pg_partition_root(used.indexrelid), used.indexrelid)
    inner join pg_namespace as n on c.relnamespace = n.oid
    inner join pg_index as i on used.indexrelid = i.indexrelid
    inner join pg_stat_user_tables as tables on used.relid = tables.relid
    where
        {OURS} and n.nspname not like 'raw\\_%'
        and not i.indisunique and not i.indisexclusion and i.indisvalid
        and not exists (select from pg_constraint where conindid = used.indexrelid)
    group by
        c.relname, names.relname,
        regexp_replace(n.nspname, '(^|_)(build|marts|personal)$', '\\1')
    having
        sum(used.idx_scan) = 0 and sum(tables.seq_scan + coalesce(tables.idx_scan, 0)) > 0
        and sum(pg_relation_size(used.indexrelid)) >= $1
    order by 3 desc
"""

DUPLICATES = f"""
    select mine.indexrelid::regclass::text, min(other.indexrelid::regclass::text), pg_relation_size(mine.indexrelid)
    from pg_index as mine
    inner join pg_index as other
        on mine.indrelid = other.indrelid and mine.indexrelid <> other.indexrelid
        and other.indkey::text || ' ' like mine.indkey::text || ' %'
    inner join pg_class as c on mine.indexrelid = c.oid
    inner join pg_class as its on other.indexrelid = its.oid and c.relam = its.relam
    inner join pg_am as methods on c.relam = methods.oid and methods.amname = 'btree'
    inner join pg_namespace as n on c.relnamespace = n.oid
    where
        {OURS} and not mine.indisunique and other.indisvalid
        and mine.indpred is null and other.indpred is null and mine.indexprs is null and other.indexprs is null
        and (mine.indkey::text <> other.indkey::text or other.indisunique or mine.indexrelid > other.indexrelid)
        and pg_relation_size(mine.indexrelid) >= $1
    group by mine.indexrelid
"""

INVALID = f"""
    select i.indexrelid::regclass::text, pg_relation_size(i.indexrelid)
    from pg_index as i
    inner join pg_class as c on i.indexrelid = c.oid
    inner join pg_namespace as n on c.relnamespace = n.oid
    where not i.indisvalid and {OURS}
"""

# Parallel workers count a scan each, so whole readings are told from the rows that were read. What dbt builds it reads
# whole by design: only what people and captures read by key can lack an index.
SCANNED = """
    with whole as (
        select
            coalesce(pg_partition_root(relid), relid) as relid, sum(pg_relation_size(relid))::bigint as size,
            sum(n_live_tup)::bigint as n_live_tup, sum(seq_tup_read) as seq_tup_read,
            sum(coalesce(idx_scan, 0))::bigint as idx_scan
        from pg_stat_user_tables
        where schemaname not in ('build', 'intermediate', 'snapshots')
        group by 1
    )

    select relid::regclass::text, size, n_live_tup, (seq_tup_read / n_live_tup)::bigint, idx_scan
    from whole
    where n_live_tup > 0 and size >= $1 and seq_tup_read / n_live_tup >= $2 and seq_tup_read / n_live_tup > idx_scan
    order by seq_tup_read desc
"""

DEAD = """
    select
        relid::regclass::text, n_dead_tup, n_live_tup,
        (pg_relation_size(relid) * n_dead_tup::numeric / (n_dead_tup + n_live_tup))::bigint
    from pg_stat_user_tables
    where n_dead_tup >= $1 and n_dead_tup >= $2 * n_live_tup
    order by n_dead_tup desc
"""

# A row takes 28 bytes and its columns' average width, in steps of 8; a page has room for 8,168 bytes. Tables whose
# statistics are old are left to that check.
BLOAT = f"""
    with widths as (
        select schemaname, tablename, sum((1 - null_frac) * avg_width) as width
        from pg_stats
        where not inherited
        group by schemaname, tablename
    ),

    sizes as (
        select
            c.oid, pg_relation_size(c.oid) as size,
            ceil(c.reltuples / greatest(1, floor(8168 / (28 + 8 * ceil(widths.width / 8))))) * 8192 as needed
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        inner join widths on n.nspname = widths.schemaname and c.relname = widths.tablename
        inner join pg_stat_user_tables as counted on c.oid = counted.relid
        where
            {OURS} and c.relkind in ('r', 'm') and c.reltuples >= 0
            and counted.n_dead_tup < 0.2 * (counted.n_live_tup + 1)
    )

    select oid::regclass::text, size, (size - needed)::bigint
    from sizes
    where size - needed >= $1 and size - needed >= $2 * size
    order by size - needed desc
"""

# What was analyzed in the transaction that filled it counts as changed afterwards, so the planner's number is compared.
STATISTICS = f"""
    select counted.relid::regclass::text, counted.n_live_tup, nullif(c.reltuples, -1)::bigint
    from pg_stat_user_tables as counted
    inner join pg_class as c on counted.relid = c.oid
    inner join pg_namespace as n on c.relnamespace = n.oid
    where
        {OURS} and counted.n_live_tup >= $1 and has_table_privilege(c.oid, 'select')
        and (
            abs(c.reltuples - counted.n_live_tup) > $2 * counted.n_live_tup
            or not exists (
                select from pg_stats as known where known.schemaname = n.nspname and known.tablename = c.relname
            )
        )
    order by counted.n_live_tup desc
"""

HIDDEN = f"""
    select count(*)
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where {OURS} and c.relkind in ('r', 'm') and not has_table_privilege(c.oid, 'select')
"""

AGE = "select datname::text, age(datfrozenxid) from pg_database where datallowconn and age(datfrozenxid) >= $1"

SLOTS = """
    select slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint as held, active
    from pg_replication_slots
    where restart_lsn is not null and pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) >= $1
"""

SETTINGS = "select name, current_setting(name), source from pg_settings"
TUNED = (
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
)
"""Settings that follow from the machine's memory and cores."""
DEFAULTS = (
    ("shared_buffers", "4GB", "a quarter of the memory"),
    ("work_mem", "64MB", "sorts and joins of a build go through files with less"),
    ("max_wal_size", "8GB", "with less a load makes a checkpoint every few seconds"),
    ("random_page_cost", "1.1", "of disks without moving heads"),
)
"""Settings of an external server that are to differ from what Postgres comes with: name, a value, the reason."""
