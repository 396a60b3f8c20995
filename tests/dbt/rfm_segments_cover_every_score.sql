{{ config(meta={'dagster': {'ref': {'name': 'rfm_segments'}}}) }}

-- Each of the 25 pairs of a recency and a frequency score has a segment.
select
    recency.score as recency_score,
    frequency.score as frequency_score
from generate_series(1, 5) as recency (score)
cross join generate_series(1, 5) as frequency (score)
left join {{ ref('rfm_segments') }} as segments
    on recency.score = segments.recency_score and frequency.score = segments.frequency_score
where segments.segment is null
