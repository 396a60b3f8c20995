-- A tenth of the households each, from those who buy most to those who buy least.
select
    tenth,
    count(*) as households,
    sum(sales_value) as sales,
    sum(basket_count) as baskets,
    round(sum(sales_value) / sum(sum(sales_value)) over (), 6) as sales_share
from (
    select
        sales_value,
        basket_count,
        ntile(10) over (order by sales_value desc, household_id asc) as tenth
    from marts.household_value
) as households
group by tenth
order by tenth
