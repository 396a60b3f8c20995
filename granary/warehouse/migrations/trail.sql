-- What keeps ops.audit_trail. The functions have their owner's rights, so that nobody else can write to it; none of them
-- runs a text, and each is called with exactly the types that it has, so that nobody's function of the same name in this
-- schema, where dbt may create, is a better match. Whoever changes a table or a grant in the ordinary course of a load or of a build is in the run ledger.

create or replace function ops.acts_as() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case current_setting('role') when 'none' then session_user::text else current_setting('role') end
$$;

create or replace function ops.is_owner(login text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select login = (select pg_get_userbyid(relowner) from pg_class where oid = 'ops.audit_trail'::regclass)
$$;

create or replace function ops.note(action text, object text, details text, state jsonb)
returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into ops.audit_trail (login, role, person, application, client, action, object, details, state)
    values (
        session_user,
        ops.acts_as(),
        nullif(left(current_setting('granary.person', true), 100), ''),
        nullif(left(current_setting('application_name'), 100), ''),
        host(inet_client_addr()),
        action, left(object, 500), left(details, 2000), state
    )
$$;

-- Whether a change is one that loads and builds make all day: tables and views of their own schemas, dbt's views in ops, by
-- their own logins (on an external server, by the one login that acts as them).
create or replace function ops.is_ordinary(tag text, object_type text, schema_name text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(schema_name, '') ~ '^pg_(toast_)?temp' or tag = 'COMMENT' or (
        ops.acts_as() in ('{loader}', '{transformer}', '{eraser}')
        and (session_user = ops.acts_as() or ops.is_owner(session_user::text))
        and tag in (
            'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'DROP TABLE', 'CREATE INDEX', 'ALTER INDEX',
            'DROP INDEX', 'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE SEQUENCE', 'ALTER SEQUENCE', 'DROP SEQUENCE'
        )
        and (
            coalesce(schema_name, '') not in ('ops', 'marts', 'personal', 'public')
            or (schema_name = 'ops' and object_type = 'view')
        )
    )
$$;

-- The owner's own migrations are in ops.migrations.
create or replace function ops.is_migrating() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(current_setting('granary.migrating', true), '') = 'on'
        and ops.is_owner(session_user::text)
$$;

-- Of a grant the statement is kept, if it is one and nothing else: it names roles and relations and holds no value.
create or replace function ops.note_change() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    change record;
    said text := case
        when current_query() ~* '^\s*(grant|revoke|alter\s+default\s+privileges)\s[^;]*;?\s*$' then current_query()
    end;
begin
    if ops.is_migrating() then
        return;
    end if;
    for change in select * from pg_event_trigger_ddl_commands() loop
        if not ops.is_ordinary(change.command_tag, change.object_type, change.schema_name) then
            perform ops.note(
                lower(change.command_tag), coalesce(change.object_identity, change.object_type, 'unknown'), said, null::jsonb
            );
        end if;
    end loop;
end
$$;

create or replace function ops.note_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone record;
begin
    if ops.is_migrating() then
        return;
    end if;
    for gone in select * from pg_event_trigger_dropped_objects() where original and not is_temporary loop
        if not ops.is_ordinary(tg_tag::text, gone.object_type, gone.schema_name) then
            perform ops.note(lower(tg_tag), gone.object_identity, null::text, null::jsonb);
        end if;
    end loop;
end
$$;

create or replace function ops.note_decision() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    decided record;
begin
    for decided in
        select now_there.source, now_there.table_name, now_there.status, count(*) as many
        from now_there
        inner join there_before on there_before.quarantine_id = now_there.quarantine_id
        where now_there.status in ('replayed', 'dropped') and there_before.status <> now_there.status
        group by 1, 2, 3
    loop
        perform ops.note(
            'quarantine ' || decided.status, format('%s.%s', decided.source, decided.table_name),
            format('%s rows', decided.many), null::jsonb
        );
    end loop;
    return null;
end
$$;

create or replace function ops.note_erasure() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform ops.note(text 'erase', format('erasure %s', new.erasure_id), null::text, null::jsonb);
    return null;
end
$$;

create or replace function ops.note_publish() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform ops.note(
        text 'publish', format('publish %s of %s', new.publish_id, new.schema_name),
        format('%s marts, %s rows in, %s out', cardinality(new.marts), new.rows_inserted, new.rows_deleted), null::jsonb
    );
    return null;
end
$$;

-- Event triggers do not fire for roles: who there is, and who is whose member, is compared with what was seen last.
create or replace function ops.note_roles() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    seen jsonb;
    before jsonb;
    difference text;
begin
    select coalesce(jsonb_agg(fact order by fact), '[]') into seen
    from (
        select format('%s%s', rolname, concat(
            case when rolcanlogin then ' login' end, case when rolsuper then ' superuser' end,
            case when rolcreaterole then ' createrole' end, case when rolcreatedb then ' createdb' end,
            case when rolreplication then ' replication' end, case when rolbypassrls then ' bypassrls' end
        )) as fact
        from pg_roles where rolname !~ '^pg_'
        union all
        select format('%s is a %s', pg_get_userbyid(member), pg_get_userbyid(roleid)) from pg_auth_members
        where pg_get_userbyid(member) !~ '^pg_'
    ) as facts;
    select state into before from ops.audit_trail where action = 'roles' order by entry_id desc limit 1;
    if before is not distinct from seen then
        return;
    end if;
    select string_agg(mark || fact, ', ' order by fact, mark) into difference
    from (
        select '+ ' as mark, fact from jsonb_array_elements_text(seen) as fact where not coalesce(before ? fact, false)
        union all
        select '- ', fact from jsonb_array_elements_text(before) as fact where not seen ? fact
    ) as changed;
    perform ops.note(text 'roles', text 'the roles of the server', difference, seen);
end
$$;

create or replace trigger note_decision after update on ops.quarantine
referencing old table as there_before new table as now_there
for each statement execute function ops.note_decision();
create or replace trigger note_erasure after insert on ops.erasures for each row execute function ops.note_erasure();
create or replace trigger note_publish after insert on ops.publishes for each row execute function ops.note_publish();

revoke all on function ops.note(text, text, text, jsonb) from public;
revoke all on function ops.note_roles() from public;
revoke all on function ops.is_migrating(), ops.is_ordinary(text, text, text), ops.acts_as(), ops.is_owner(text) from public;
