with

dates as (

    select * from {{ ref('dim_date') }}

)

select
    date_day,
    min(date_day) over (partition by year, retailer_week) as week_start_date
from dates
