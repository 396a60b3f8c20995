-- Which of the 20.9 M placements could have moved a sale: those of products in stores that sell them. One pass over
-- fct_promotions. Sorting it for a merge join, which the planner may prefer, takes minutes instead of 10 s.
{{ config(materialized='table', pre_hook="set local enable_mergejoin = off") }}

with

placements as (

    select * from {{ ref('fct_promotions') }}

),

sales as (

    select * from {{ ref('fct_sales') }}

)

select
    placements.product_id,
    placements.store_id,
    placements.week,
    placements.display_location,
    placements.mailer_location
from placements
where exists (
    select 1
    from sales
    where sales.product_id = placements.product_id and sales.store_id = placements.store_id
)
