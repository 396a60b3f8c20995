-- Department, place of the display and of the mailer, where anything is known of the store and week.
select
    coalesce(sales.department, 'unknown') as department,
    coalesce(displays.meaning, sales.display_location) as display,
    coalesce(mailers.meaning, sales.mailer_location) as mailer,
    sum(sales.line_count) as line_count,
    sum(sales.sales_value) as sales,
    sum(sales.regular_value) as regular_value,
    sum(sales.retail_disc) as loyalty_discount
from marts.promotion_performance as sales
left join marts.promotion_codes as displays
    on displays.medium = 'display' and sales.display_location = displays.code
left join marts.promotion_codes as mailers
    on mailers.medium = 'mailer' and sales.mailer_location = mailers.code
where sales.promotion <> 'unknown'
group by
    coalesce(sales.department, 'unknown'),
    coalesce(displays.meaning, sales.display_location),
    coalesce(mailers.meaning, sales.mailer_location)
order by department, display, mailer
