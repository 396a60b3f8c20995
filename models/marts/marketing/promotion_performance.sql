{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'week', 'changed_by': {
            'int_promotions__sales_lines': 'week',
            'int_products__categories': "
                select distinct lines.week
                from changes
                inner join {int_promotions__sales_lines} as lines using (product_key)
                where changes.sign < 0
            ",
        }},
    )
}}

with

lines as (

    select * from {{ ref('int_promotions__sales_lines') }}
    where {{ granary.in_partitions() }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

combinations as (

    select
        lines.week,
        categories.department,
        lines.display_location,
        lines.mailer_location,
        lines.promotion,
        count(*) as line_count,
        sum(lines.item_count) as item_count,
        sum(lines.sales_value) as sales_value,
        sum(lines.regular_value) as regular_value,
        sum(lines.retail_disc) as retail_disc
    from lines
    inner join categories on lines.product_key = categories.product_key
    group by
        lines.week,
        categories.department,
        lines.display_location,
        lines.mailer_location,
        lines.promotion

)

select
    week,
    department,
    display_location,
    mailer_location,
    promotion,
    cast(line_count as integer) as line_count,
    item_count,
    cast(sales_value as numeric(12, 2)) as sales_value,
    cast(regular_value as numeric(12, 2)) as regular_value,
    cast(retail_disc as numeric(12, 2)) as retail_disc,
    cast(
        sales_value / nullif(sum(sales_value) over (partition by week, department), 0) as numeric(9, 6)
    ) as department_share
from combinations
