-- Recency × frequency: households, what they bought and are expected to buy.
select
    recency_score as recency,
    frequency_score as frequency,
    coalesce(segment, 'unknown') as segment,
    count(*) as households,
    count(*) filter (where is_lapsed) as lapsed,
    sum(basket_count) as baskets,
    sum(sales_value) as sales,
    sum(expected_90d_sales) as expected_90d_sales
from marts.household_value
group by recency_score, frequency_score, coalesce(segment, 'unknown')
order by recency_score, frequency_score
