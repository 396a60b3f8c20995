{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changed_by': {}, 'depends_on_vars': ['calendar_start', 'calendar_end', 'time_zone']},
    )
}}

with

days as (

    select cast(day_at as date) as date_day
    from
        generate_series(
            date '{{ var("calendar_start") }}', date '{{ var("calendar_end") }}', interval '1 day'
        ) as series (day_at)

),

bounds as (

    select
        date_day,
        cast(date_day as timestamp) at time zone '{{ var("time_zone") }}' as starts_at,
        cast(date_day + 1 as timestamp) at time zone '{{ var("time_zone") }}' as ends_at
    from days

)

select
    date_day,
    cast(extract(year from date_day) as integer) as year,
    cast(extract(quarter from date_day) as integer) as quarter,
    cast(extract(month from date_day) as integer) as month,
    cast(date_trunc('month', date_day) as date) as month_start_date,
    cast(extract(day from date_day) as integer) as day_of_month,
    cast(extract(doy from date_day) as integer) as day_of_year,
    trim(to_char(date_day, 'Day')) as day_name,
    cast(extract(isodow from date_day) as integer) as iso_day_of_week,
    cast(extract(week from date_day) as integer) as iso_week,
    cast(extract(isoyear from date_day) as integer) as iso_year,
    {{ retailer_week('date_day') }} as retailer_week,
    extract(isodow from date_day) in (6, 7) as is_weekend,
    starts_at,
    ends_at,
    cast(extract(epoch from ends_at - starts_at) / 3600 as integer) as hours_in_day,
    cast(
        extract(epoch from cast(date_day as timestamp) - (starts_at at time zone 'UTC')) / 3600 as integer
    ) as utc_offset_hours
from bounds
