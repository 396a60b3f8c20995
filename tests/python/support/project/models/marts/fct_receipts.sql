{{ config(materialized='incremental', incremental_strategy='overwrite_partitions', on_schema_change='fail') }}

select
    receipt_id,
    article_id,
    cast(paid_at as date) as business_date,
    cast(amount as numeric(12, 2)) as amount
from raw_till.receipts
