{{ config(meta={'dagster': {'ref': {'name': 'fct_sales'}}}) }}

-- Every load of sales: raw, staging and fct_sales agree on the rows, and on every amount to the cent.
with

raw_sales as (

    select
        _load_id as load_id,
        count(*) as line_count,
        round(cast(sum(sales_value) as numeric), 2) as sales_value,
        round(cast(sum(retail_disc) as numeric), 2) as retail_disc,
        round(cast(sum(coupon_disc) as numeric), 2) as coupon_disc,
        round(cast(sum(coupon_match_disc) as numeric), 2) as coupon_match_disc
    from {{ source('pos', 'transactions') }}
    where true {{ granary.and_of_new_loads('fct_sales', 'pos', '_load_id') }}
    group by _load_id

),

staged as (

    select
        load_id,
        count(*) as line_count,
        sum(sales_value) as sales_value
    from {{ ref('stg_pos__transactions') }}
    where true {{ granary.and_of_new_loads('fct_sales', 'pos', 'load_id') }}
    group by load_id

),

facts as (

    select
        load_id,
        count(*) as line_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc
    from {{ ref('fct_sales') }}
    where
        true {{ granary.and_of_new_loads('fct_sales', 'pos', 'load_id') }}
        and true {{ granary.and_of_latest_publish({'fct_sales': 'business_date'}, 'business_date') }}
    group by load_id

)

select
    load_id,
    raw_sales.line_count as raw_count,
    staged.line_count as staged_count,
    facts.line_count as fact_count,
    raw_sales.sales_value as raw_value,
    staged.sales_value as staged_value,
    facts.sales_value as fact_value
from raw_sales
full outer join staged using (load_id)
full outer join facts using (load_id)
where
    (staged.line_count, facts.line_count) is distinct from (raw_sales.line_count, raw_sales.line_count)
    or staged.sales_value is distinct from raw_sales.sales_value
    or (facts.sales_value, facts.retail_disc, facts.coupon_disc, facts.coupon_match_disc)
    is distinct from
    (raw_sales.sales_value, raw_sales.retail_disc, raw_sales.coupon_disc, raw_sales.coupon_match_disc)
