-- Department and retailer's week: sales, and as a multiple of the department's mean of the whole weeks.
with

weeks as (

    select
        coalesce(department, 'unknown') as department,
        week,
        min(week_start_date) as week_start_date,
        sum(sales_value) as sales_value
    from marts.weekly_category_sales
    group by coalesce(department, 'unknown'), year, week

),

whole as (

    select
        retailer_week as week,
        min(date_day) as first_date
    from marts.dim_date
    where date_day in (select sales.business_date from marts.daily_sales as sales)
    group by year, retailer_week
    having count(*) = 7 -- weeks 1 and 53 are short

)

select
    weeks.department,
    weeks.week,
    to_char(whole.first_date, 'YYYY-MM-DD') as week_start,
    weeks.sales_value as sales,
    round(
        weeks.sales_value / nullif(sum(weeks.sales_value) over (partition by weeks.department), 0)
        * (select count(numbered.week) from whole as numbered),
        4
    ) as sales_index,
    sum(weeks.sales_value) over (partition by weeks.department) as department_sales
from weeks
inner join whole on weeks.week = whole.week and whole.first_date - weeks.week_start_date between 0 and 6
order by department_sales desc, weeks.department asc, whole.first_date asc
