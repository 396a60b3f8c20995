-- Store: rank, how much of all sales it and the larger ones make, and its last 28 days against the 28 before.
select
    cast(store_id as text) as store,
    sales_rank,
    sales_value as sales,
    basket_count as baskets,
    household_count as households,
    sum(sales_share) over (order by sales_rank) as cumulative_share,
    sales_last_28d,
    sales_previous_28d,
    sales_change,
    sales_change_rate
from marts.store_performance
order by sales_rank
