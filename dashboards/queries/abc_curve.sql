-- A point for each half of a percent of the products, best first: the share of sales that they make together.
select
    percent / 100.0 as product_share,
    max(cumulative_share) as sales_share,
    max(abc_class) as abc_class,
    max(sales_rank) as products
from (
    select
        cumulative_share,
        abc_class,
        sales_rank,
        ceil(200.0 * sales_rank / count(*) over ()) / 2 as percent
    from marts.product_performance
) as products
group by percent
order by percent
