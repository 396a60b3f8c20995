{#- The versions of a key follow one another without gap or overlap from 1900 to 9999; only the last is current. -#}
{% test scd2_is_gapless(model, key) %}

with

neighbours as (

    select
        {{ key }},
        valid_from,
        valid_to,
        is_current,
        lag(valid_to, 1, timestamptz '1900-01-01 00:00:00+00') over versions as expected_from,
        lead(valid_from, 1, timestamptz '9999-12-31 00:00:00+00') over versions as expected_to
    from {{ model }}
    window versions as (partition by {{ key }} order by valid_from)

)

select *
from neighbours
where
    valid_from <> expected_from
    or valid_to <> expected_to
    or valid_from >= valid_to
    or is_current <> (valid_to = timestamptz '9999-12-31 00:00:00+00')

{% endtest %}
