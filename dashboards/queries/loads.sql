-- Source table: its last load, and what became of the rows of all of them.
select
    source || '.' || table_name as source_table,
    last_status,
    to_char(last_good_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as last_good_at,
    failed_loads,
    active_rows,
    rows_quarantined,
    coalesce(quarantined_share, 0) as quarantined_share,
    cast(last_status = 'failed' as integer) as failing
from ops.load_health
order by source_table
