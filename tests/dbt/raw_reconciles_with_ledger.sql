{{ config(meta={'dagster': {'ref': {'name': 'stg_pos__transactions'}}}) }}

-- Every load that still counts has as many rows in raw as the ledger says, and raw has no row of any other load. Tables
-- that take a row by its key are left out.
{{
    granary.ledger_differences([
        ('pos', 'promotions', 'fct_promotions'),
        ('pos', 'transactions', 'fct_sales'),
        ('marketing', 'coupons', none),
        ('marketing', 'recipients', none),
    ])
}}
