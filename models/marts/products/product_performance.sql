with

sales as (

    select * from {{ ref('fct_sales') }}

),

products as (

    select * from {{ ref('dim_product') }}
    where is_current

),

sold as (

    select
        product_id,
        min(business_date) as first_sold_date,
        max(business_date) as last_sold_date,
        count(*) as line_count,
        sum(quantity) filter (where not is_fuel) as item_count,
        count(distinct basket_id) as basket_count,
        count(distinct household_id) as household_count,
        count(distinct store_id) as store_count,
        sum(sales_value) as sales_value,
        sum(regular_value) as regular_value,
        sum(retail_disc) as retail_disc
    from sales
    group by product_id

),

ranked as (

    select
        *,
        row_number() over by_sales as sales_rank,
        sum(sales_value) over () as total,
        sum(sales_value) over by_sales as up_to_this
    from sold
    window by_sales as (order by sales_value desc, product_id asc)

)

select
    ranked.product_id,
    products.department,
    products.product_category,
    products.product_type,
    products.brand,
    products.is_inferred,
    ranked.first_sold_date,
    ranked.last_sold_date,
    cast(ranked.line_count as integer) as line_count,
    ranked.item_count,
    cast(ranked.basket_count as integer) as basket_count,
    cast(ranked.household_count as integer) as household_count,
    cast(ranked.store_count as integer) as store_count,
    cast(ranked.sales_value as numeric(12, 2)) as sales_value,
    cast(ranked.regular_value as numeric(12, 2)) as regular_value,
    cast(ranked.retail_disc as numeric(12, 2)) as retail_disc,
    cast(ranked.sales_rank as integer) as sales_rank,
    cast(ranked.sales_value / nullif(ranked.total, 0) as numeric(9, 6)) as sales_share,
    cast(ranked.up_to_this / nullif(ranked.total, 0) as numeric(9, 6)) as cumulative_share,
    -- By what the products before it make, so the product that crosses a border is still in the class.
    case
        when ranked.up_to_this - ranked.sales_value < 0.80 * ranked.total then 'A'
        when ranked.up_to_this - ranked.sales_value < 0.95 * ranked.total then 'B'
        else 'C'
    end as abc_class
from ranked
left join products on ranked.product_id = products.product_id
