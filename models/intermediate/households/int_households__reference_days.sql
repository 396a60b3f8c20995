{{ config(meta={'depends_on_vars': ['as_of']}) }}

with

baskets as (

    select * from {{ ref('fct_baskets') }}

),

as_of as (

    select coalesce(cast(nullif('{{ var("as_of") }}', '') as date), max(business_date) + 1) as as_of_date
    from baskets

)

select
    as_of.as_of_date - series.days_back as reference_date,
    series.days_back
from as_of
cross join (values (0), (90), (180)) as series (days_back)
where as_of.as_of_date is not null
