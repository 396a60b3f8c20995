-- Up to which business date there are sales, and when the marts were last published.
select
    (select max(daily.business_date) from marts.daily_sales as daily) as data_up_to,
    to_char(max(publishes.finished_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as published_at
from ops.publishes as publishes
where publishes.schema_name = 'marts'
