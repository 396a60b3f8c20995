{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key=['campaign_id', 'comparison', 'controls'],
        meta={
            'partition_by': 'campaign_id',
            'depends_on_vars': ['campaign_strata'],
            'changed_by': {'int_campaigns__household_sales': 'campaign_id'},
        },
    )
}}

with

households as (

    select
        campaign_id,
        comparison,
        household_id,
        is_contacted,
        is_contacted_elsewhere,
        earlier_sales_value,
        before_sales_value,
        window_sales_value - before_sales_value as sales_change
    from {{ ref('int_campaigns__household_sales') }}
    where
        {{ granary.in_partitions() }}
        and window_sales_value is not null
        and before_sales_value is not null
        and earlier_sales_value is not null

),

-- Those who bought nothing earlier are a stratum of their own; the others are cut into equal parts by what they spent.
stratified as (

    select
        campaign_id,
        comparison,
        is_contacted,
        is_contacted_elsewhere,
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

-- Once with every household that was not contacted, and once with those that no other campaign reached either.
controls as (

    select
        stratified.*,
        kinds.controls
    from stratified
    cross join (values ('all'), ('clean')) as kinds (controls)
    where kinds.controls = 'all' or stratified.is_contacted or not stratified.is_contacted_elsewhere

),

strata as (

    select
        campaign_id,
        comparison,
        controls,
        stratum,
        count(*) filter (where is_contacted) as contacted_count,
        count(*) filter (where not is_contacted) as control_count,
        count(*) filter (where not is_contacted and is_contacted_elsewhere) as elsewhere_count,
        avg(before_sales_value) filter (where not is_contacted) as control_before,
        avg(sales_change) filter (where not is_contacted) as control_change,
        var_samp(sales_change) filter (where not is_contacted) as control_variance
    from controls
    group by campaign_id, comparison, controls, stratum

),

compared as (

    select
        campaign_id,
        comparison,
        strata.controls,
        stratified.is_contacted_elsewhere,
        stratified.before_sales_value,
        stratified.sales_change,
        strata.control_before,
        strata.control_change,
        stratified.sales_change - strata.control_change as effect,
        strata.contacted_count * strata.control_variance / strata.control_count as control_error,
        cast(strata.control_count as numeric) / strata.contacted_count as controls_per_contacted,
        cast(strata.elsewhere_count as numeric) / strata.control_count as control_elsewhere_share
    from stratified
    inner join strata using (campaign_id, comparison, stratum)
    where stratified.is_contacted and strata.control_count >= 2

)

select
    campaign_id,
    comparison,
    controls,
    count(*) as matched_household_count,
    cast(round(sum(controls_per_contacted)) as integer) as control_household_count,
    cast(count(*) filter (where is_contacted_elsewhere) / cast(count(*) as numeric) as numeric(9, 6))
        as matched_elsewhere_share,
    cast(avg(control_elsewhere_share) as numeric(9, 6)) as control_elsewhere_share,
    cast(avg(before_sales_value) as numeric(18, 6)) as matched_before,
    cast(avg(control_before) as numeric(18, 6)) as control_before,
    cast(avg(sales_change) as numeric(18, 6)) as matched_change,
    cast(avg(control_change) as numeric(18, 6)) as control_change,
    cast(avg(effect) as numeric(18, 6)) as effect,
    cast(
        sqrt(var_samp(effect) / count(*) + sum(control_error) / (count(*) * count(*))) as numeric(18, 6)
    ) as effect_std_error
from compared
group by campaign_id, comparison, controls
