-- What does not hold as it should, the incidents that this adds up to, and what is told of them. See granary/alerting/.

create table if not exists ops.signals (
    kind text not null,
    subject text not null,
    since timestamptz not null default clock_timestamp(),
    value double precision,
    threshold double precision,
    severity text not null default 'warning' check (severity in ('warning', 'critical')),
    owner text not null default '',
    detail text not null default '',
    seen_at timestamptz not null default clock_timestamp(),
    primary key (kind, subject)
);
comment on table ops.signals is
'Conditions that hold now and that no other record tells of, such as an anomaly: who finds one writes it, and deletes it when it is over.';

create table if not exists ops.incidents (
    incident_id bigint generated always as identity primary key,
    cause text not null,
    severity text not null check (severity in ('warning', 'critical')),
    owner text not null,
    signals jsonb not null,
    affected jsonb not null,
    since timestamptz not null,
    opened_at timestamptz not null,
    updated_at timestamptz not null,
    told_at timestamptz,
    times integer not null default 1,
    acked_at timestamptz,
    acked_by text,
    muted_at timestamptz,
    muted_until timestamptz,
    escalated_at timestamptz,
    gone_since timestamptz,
    closed_at timestamptz,
    part_of bigint references ops.incidents on delete set null
);
comment on table ops.incidents is
'Everything that one cause made fail or late: from when it was opened until it was over. times: how often it came back.';
create index if not exists incidents_open on ops.incidents (cause) where closed_at is null;

create table if not exists ops.alerts (
    alert_id bigint generated always as identity primary key,
    incident_id bigint not null references ops.incidents on delete cascade,
    transition text not null check (transition in ('opened', 'updated', 'escalated', 'closed')),
    channel text not null,
    key text not null unique,
    message jsonb not null,
    created_at timestamptz not null,
    due_at timestamptz not null,
    attempts integer not null default 0,
    error text,
    sent_at timestamptz
);
comment on table ops.alerts is
'The queue of what is told: a row per incident, transition and channel, sent once sent_at is set. The key goes with each attempt, by which a receiver knows a repeated one.';
create index if not exists alerts_waiting on ops.alerts (channel, alert_id) where sent_at is null;
