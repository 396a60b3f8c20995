{{ config(meta={'dagster': {'ref': {'name': 'dim_product'}}}) }}

-- Every household, product, store, campaign, coupon and contact of raw is in its mart once (as a current version), and
-- nothing else is, apart from inferred members.
{%- set pairs = [
    ('household', 'count(*)', source('crm', 'households'), ref('dim_household'), 'is_current and not is_inferred'),
    ('product', 'count(*)', source('crm', 'products'), ref('dim_product'), 'is_current and not is_inferred'),
    ('store', 'count(*)', source('crm', 'stores'), ref('dim_store'), 'not is_inferred'),
    ('campaign', 'count(*)', source('marketing', 'campaigns'), ref('dim_campaign'), 'true'),
    ('coupon', 'count(distinct coupon_upc)', source('marketing', 'coupons'), ref('dim_coupon'), 'true'),
    ('contact', 'count(*)', source('marketing', 'recipients'), ref('fct_campaign_contacts'), 'true'),
] %}

with

counts as (

    {% for entity, rows, raw_table, mart, condition in pairs %}
    select
        '{{ entity }}' as entity,
        'raw' as side,
        {{ rows }} as row_count
    from {{ raw_table }}

    union all

    select
        '{{ entity }}' as entity,
        'mart' as side,
        count(*) as row_count
    from {{ mart }}
    where {{ condition }}
    {% if not loop.last %}

    union all

    {% endif %}
    {% endfor %}

)

select
    entity,
    sum(row_count) filter (where side = 'raw') as raw_count,
    sum(row_count) filter (where side = 'mart') as mart_count
from counts
group by entity
having min(row_count) <> max(row_count)
