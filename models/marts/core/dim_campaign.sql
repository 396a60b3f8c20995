{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

campaigns as (

    select * from {{ ref('snap_marketing__campaigns') }}

)

select
    campaign_id,
    campaign_type,
    start_date,
    end_date,
    end_date - start_date + 1 as duration_days,
    load_id
from campaigns
where dbt_valid_to is null
