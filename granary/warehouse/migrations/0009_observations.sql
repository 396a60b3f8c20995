-- What was seen of each raw table, day by day, and where that departed from what was expected (docs/engine/anomalies.md).

create table if not exists ops.observations (
    source text not null,
    table_name text not null,
    day date not null,
    unit text not null,
    column_name text not null,
    metric text not null,
    value double precision not null,
    shares jsonb,
    load_id bigint not null,
    first_load_id bigint not null,
    observed_at timestamptz not null default clock_timestamp(),
    primary key (source, table_name, day, unit, column_name, metric)
);
comment on table ops.observations is
'Statistics of the rows that each business day, or unit without one, has brought to a raw table: counts, shares, means and quantiles, and of columns that are not personal how often their common values came.';

create table if not exists ops.anomalies (
    anomaly_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    column_name text not null,
    metric text not null,
    day date not null,
    unit text not null,
    value double precision not null,
    low double precision not null,
    expected double precision not null,
    high double precision not null,
    message text not null,
    muted boolean not null default false,
    first_seen_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    closed_because text check (closed_because in ('corrected', 'passed')),
    unique (source, table_name, column_name, metric, day, unit),
    check ((closed_at is null) = (closed_because is null))
);
comment on table ops.anomalies is
'Observations outside of what the days before made expected. Open until a corrected load puts it right, or seven more days have come.';
