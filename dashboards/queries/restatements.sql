-- Publish, mart and closed month that it changed.
select
    to_char(published_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as published_at,
    mart,
    to_char(business_month, 'YYYY-MM') as month,
    row_difference,
    rows_inserted,
    rows_deleted,
    cast(differences as text) as differences,
    case when is_by_erasure then 'yes' end as is_by_erasure
from ops.restatements
order by publish_id desc, mart asc, business_month asc
limit 500
