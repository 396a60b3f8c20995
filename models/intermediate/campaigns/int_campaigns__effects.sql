{{ config(materialized='table') }}

with

households as (

    select
        campaign_id,
        comparison,
        household_id,
        is_contacted,
        earlier_sales_value,
        before_sales_value,
        window_sales_value - before_sales_value as sales_change
    from {{ ref('int_campaigns__household_sales') }}
    where window_sales_value is not null and before_sales_value is not null and earlier_sales_value is not null

),

-- Those who bought nothing earlier are a stratum of their own; the others are cut into equal parts by what they spent.
stratified as (

    select
        campaign_id,
        comparison,
        is_contacted,
        before_sales_value,
        sales_change,
        case
            when earlier_sales_value > 0
                then ntile({{ var('campaign_strata') }}) over (
                    partition by campaign_id, comparison, earlier_sales_value > 0
                    order by earlier_sales_value, household_id
                )
            else 0
        end as stratum
    from households

),

strata as (

    select
        campaign_id,
        comparison,
        stratum,
        count(*) filter (where is_contacted) as contacted_count,
        count(*) filter (where not is_contacted) as control_count,
        avg(before_sales_value) filter (where not is_contacted) as control_before,
        avg(sales_change) filter (where not is_contacted) as control_change,
        var_samp(sales_change) filter (where not is_contacted) as control_variance
    from stratified
    group by campaign_id, comparison, stratum

),

compared as (

    select
        campaign_id,
        comparison,
        stratified.before_sales_value,
        stratified.sales_change,
        strata.control_before,
        strata.control_change,
        stratified.sales_change - strata.control_change as effect,
        strata.contacted_count * strata.control_variance / strata.control_count as control_error,
        cast(strata.control_count as numeric) / strata.contacted_count as controls_per_contacted
    from stratified
    inner join strata using (campaign_id, comparison, stratum)
    where stratified.is_contacted and strata.control_count >= 2

)

select
    campaign_id,
    comparison,
    count(*) as matched_household_count,
    cast(round(sum(controls_per_contacted)) as integer) as control_household_count,
    cast(avg(before_sales_value) as numeric(18, 6)) as matched_before,
    cast(avg(control_before) as numeric(18, 6)) as control_before,
    cast(avg(sales_change) as numeric(18, 6)) as matched_change,
    cast(avg(control_change) as numeric(18, 6)) as control_change,
    cast(avg(effect) as numeric(18, 6)) as effect,
    cast(
        sqrt(var_samp(effect) / count(*) + sum(control_error) / (count(*) * count(*))) as numeric(18, 6)
    ) as effect_std_error
from compared
group by campaign_id, comparison
