{{ config(meta={'dagster': {'ref': {'name': 'fct_coupon_redemptions'}}}) }}

-- An event that comes by several channels lands once: a load may have fewer events in raw than it brought, but never
-- more, and no event is of a load that the ledger does not know.
{{ granary.ledger_differences([('events', 'coupon_redemptions', 'fct_coupon_redemptions')], keyed=true) }}
