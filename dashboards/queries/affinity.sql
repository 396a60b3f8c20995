-- The pairs of categories that are most often in one basket, compared with chance.
select
    category_a || ' + ' || category_b as pair,
    both_basket_count as baskets,
    support,
    confidence_a_to_b,
    confidence_b_to_a,
    lift
from marts.basket_affinity
order by lift desc, category_a asc, category_b asc
limit 20
