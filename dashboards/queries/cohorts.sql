-- Cohort (month of the first purchase) and month.
select
    to_char(cohort_month, 'YYYY-MM') as cohort,
    to_char(month_start_date, 'YYYY-MM') as month,
    months_since_first,
    cohort_size,
    active_household_count as active_households,
    retention,
    sales_value as sales
from marts.cohort_retention
order by cohort_month, month_start_date
