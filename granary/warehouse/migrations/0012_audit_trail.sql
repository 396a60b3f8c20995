-- Who changed what: kept by triggers, which nobody but the owner can change (docs/engine/security.md).

create table if not exists ops.audit_trail (
    entry_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    login text not null,
    role text not null,
    person text,
    application text,
    client text,
    action text not null,
    object text not null,
    details text,
    state jsonb
);
comment on table ops.audit_trail is
'Who changed what: structures and grants, roles, quarantine decisions, erasures, publishes. Login and role are the server''s knowledge, person is what the process said of itself.';
create index if not exists audit_trail_at on ops.audit_trail (at);
