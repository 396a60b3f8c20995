{{ config(meta={'dagster': {'ref': {'name': 'product_price_history'}}}) }}

-- Every product and week: the lines with a price are those of fct_sales that have pieces and are not fuel, to the cent.
-- After an increment, those of the weeks that sales changed in, and those that the mart has other rows for.
{% set history = granary.node_named('product_price_history') %}
{% set and_changed = granary.and_of_latest_publish({'fct_sales': 'week', 'product_price_history': 'week'}, 'week') %}
{% if and_changed %}
    {% set of_sales = granary.and_of_latest_publish({'fct_sales': 'week'}, 'week') %}
    {% set and_changed = 'and (true ' ~ of_sales ~ ' or ' ~ granary.of_latest_version(history) ~ ')' %}
{% endif %}

with

prices as (

    select * from {{ ref('product_price_history') }}
    where true {{ and_changed }}

),

sales as (

    select
        product_id,
        week,
        count(*) as line_count,
        sum(quantity) as item_count,
        sum(sales_value) as sales_value,
        round(min(regular_value / quantity), 2) as lowest_price,
        round(max(regular_value / quantity), 2) as highest_price
    from {{ ref('fct_sales') }}
    where quantity > 0 and not is_fuel {{ and_changed }}
    group by product_id, week

)

select
    product_id,
    week,
    prices.sales_value as mart_value,
    sales.sales_value
from prices
full outer join sales using (product_id, week)
where
    (prices.line_count, prices.item_count, prices.sales_value)
    is distinct from
    (sales.line_count, sales.item_count, sales.sales_value)
    or prices.regular_price < sales.lowest_price
    or prices.regular_price > sales.highest_price
