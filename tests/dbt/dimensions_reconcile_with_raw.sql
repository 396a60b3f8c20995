{{ config(meta={'dagster': {'ref': {'name': 'dim_product'}}}) }}

-- Every household, product, store, campaign, coupon and contact of raw is in its mart once (as a current version) with
-- the same values, and nothing else is, apart from inferred members.
{%- set household = {
    'household_id': 'household_id', 'age': 'age_range', 'income': 'income_range', 'home_ownership': 'home_ownership',
    'marital_status': 'marital_status', 'household_size': 'household_size',
    'household_comp': 'household_composition', 'kids_count': 'kids_count',
} %}
{%- set product = {
    'product_id': 'product_id', 'manufacturer_id': 'manufacturer_id', 'department': 'department', 'brand': 'brand',
    'product_category': 'product_category', 'product_type': 'product_type', 'package_size': 'package_size',
} %}
{%- set campaign = {
    'campaign_id': 'campaign_id', 'campaign_type': 'campaign_type', 'start_date': 'start_date', 'end_date': 'end_date',
} %}
{%- set contact = {'campaign_id': 'campaign_id', 'household_id': 'household_id'} %}
{%- set current = 'is_current and not is_inferred' %}
{%- set pairs = [
    ('household', household, source('crm', 'households'), ref('dim_household'), current),
    ('product', product, source('crm', 'products'), ref('dim_product'), current),
    ('store', {'store_id': 'store_id'}, source('crm', 'stores'), ref('dim_store'), 'not is_inferred'),
    ('campaign', campaign, source('marketing', 'campaigns'), ref('dim_campaign'), 'true'),
    ('contact', contact, source('marketing', 'recipients'), ref('fct_campaign_contacts'), 'true'),
] %}

with

differences as (

    {% for entity, columns, raw_table, mart, condition in pairs %}
    select
        '{{ entity }}' as entity,
        'raw' as side
    from (
        select {{ columns.keys() | join(', ') }} from {{ raw_table }}
        except all
        select {{ columns.values() | join(', ') }} from {{ mart }}
        where {{ condition }}
    ) as only_in_raw

    union all

    select
        '{{ entity }}' as entity,
        'mart' as side
    from (
        select {{ columns.values() | join(', ') }} from {{ mart }}
        where {{ condition }}
        except all
        select {{ columns.keys() | join(', ') }} from {{ raw_table }}
    ) as only_in_mart

    union all

    {% endfor %}
    select
        'coupon' as entity,
        case when raw_coupons.coupon_upc is null then 'mart' else 'raw' end as side
    from (select distinct coupon_upc from {{ source('marketing', 'coupons') }}) as raw_coupons -- one row per product
    full outer join {{ ref('dim_coupon') }} as coupons on raw_coupons.coupon_upc = coupons.coupon_upc
    where raw_coupons.coupon_upc is null or coupons.coupon_upc is null

)

select
    entity,
    count(*) filter (where side = 'raw') as only_in_raw,
    count(*) filter (where side = 'mart') as only_in_mart
from differences
group by entity
