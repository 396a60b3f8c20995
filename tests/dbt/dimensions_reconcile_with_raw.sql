-- Every household, product, store, campaign, coupon and contact of raw is in its mart once (as a current version), and nothing else
-- is, apart from inferred members.
with

counts as (

    select
        'household' as entity,
        (select count(*) from {{ source('crm', 'households') }}) as raw_count,
        (select count(*) from {{ ref('dim_household') }} where is_current and not is_inferred) as mart_count

    union all

    select
        'product' as entity,
        (select count(*) from {{ source('crm', 'products') }}) as raw_count,
        (select count(*) from {{ ref('dim_product') }} where is_current and not is_inferred) as mart_count

    union all

    select
        'store' as entity,
        (select count(*) from {{ source('crm', 'stores') }}) as raw_count,
        (select count(*) from {{ ref('dim_store') }} where not is_inferred) as mart_count

    union all

    select
        'campaign' as entity,
        (select count(*) from {{ source('marketing', 'campaigns') }}) as raw_count,
        (select count(*) from {{ ref('dim_campaign') }}) as mart_count

    union all

    select
        'coupon' as entity,
        (select count(distinct coupon_upc) from {{ source('marketing', 'coupons') }}) as raw_count,
        (select count(*) from {{ ref('dim_coupon') }}) as mart_count

    union all

    select
        'contact' as entity,
        (select count(*) from {{ source('marketing', 'recipients') }}) as raw_count,
        (select count(*) from {{ ref('fct_campaign_contacts') }}) as mart_count

)

select
    entity,
    raw_count,
    mart_count
from counts
where raw_count <> mart_count
