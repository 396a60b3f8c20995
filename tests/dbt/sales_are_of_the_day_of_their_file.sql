{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'fct_sales'}}}) }}

-- Worth a look, not worth stopping for: lines in the file of another business date, as of tills whose clock is wrong.
with

sales as (

    select
        load_id,
        business_date,
        count(*) as line_count
    from {{ ref('fct_sales') }}
    where true {{ granary.and_of_latest_publish({'fct_sales': 'business_date'}, 'business_date') }}
    group by load_id, business_date

)

select
    loads.unit,
    sales.business_date,
    sales.line_count
from sales
inner join {{ source('ops', 'load_audit') }} as loads on sales.load_id = loads.load_id
where sales.business_date <> cast(substring(loads.unit from '\d{4}-\d\d-\d\d') as date)
