-- Mart: what its latest audit proved.
with

latest as (

    select
        *,
        max(audited_at) over (partition by model) as last_audited_at,
        first_value(invocation_id) over (partition by model order by audited_at desc) as last_invocation_id
    from ops.model_audits

)

select
    split_part(model, '.', 2) as mart,
    count(*) as tests,
    count(*) filter (where failures = 0) as passed,
    count(*) filter (where failures > 0) as failing,
    to_char(last_audited_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as audited_at
from latest
where
    invocation_id = last_invocation_id
    and split_part(model, '.', 2) in (
        select marts.table_name from information_schema.tables as marts
        where marts.table_schema = 'marts'
    )
group by model, last_audited_at
order by model
