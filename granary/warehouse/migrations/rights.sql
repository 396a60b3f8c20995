-- Who may do what. Applied at every start, after migrations and functions: what is missing is given again. The setting
-- granary.embedded says whether the server is our own. `{loader}` is the role's name in the server (role_names.py).

-- What each role may do is in docs/engine/access.md. Two have no people: `eraser` takes out who is forgotten (`granary
-- forget`), and `view_keeper` owns the functions by which a raw column takes a wider type. Neither is a superuser, nor
-- is a member of them. The roles may have been made before (`granary roles script`): then nothing of this is needed.
-- Since Postgres 16 whoever makes a role may grant it, and neither has its rights nor becomes it: that is granted here.
do $$
declare
    wanted text;
    is_new boolean := current_setting('server_version_num')::int >= 160000;
begin
    foreach wanted in array array[
        '{loader}', '{transformer}', '{analyst}', '{analyst_pii}', '{auditor}', '{monitor}', '{eraser}', '{view_keeper}'
    ]
    loop
        begin
            if not exists (select from pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
            if not pg_has_role(current_user, wanted, case when is_new then 'set' else 'member' end)
                or not pg_has_role(current_user, wanted, 'usage')
            then
                execute format('grant %I to current_user', wanted)
                    || case when is_new then ' with inherit true, set true' else '' end;
            end if;
        exception when duplicate_object or unique_violation then
            null; -- another warehouse of this server was quicker, and has committed
        end;
    end loop;
    if not pg_has_role('{analyst_pii}', '{analyst}', 'member') then
        grant {analyst} to {analyst_pii};
    end if;
    if not pg_has_role('{view_keeper}', '{transformer}', 'member') then
        grant {transformer} to {view_keeper};
    end if;
    if not pg_has_role('{eraser}', '{loader}', 'member') then
        grant {loader}, {transformer} to {eraser};
    end if;
end
$$;

-- On the embedded server a process logs in as the role that it works as, so that no code in a session can get more.
-- A login of an external server could be open to others: there only the login of PGUSER is used.
do $$
begin
    if current_setting('granary.embedded') <> 'on' then
        return;
    end if;
    if exists (select from pg_roles where rolname = '{loader}' and not rolcanlogin) then
        alter role {loader} login;
        alter role {transformer} login;
        alter role {analyst} login;
        alter role {analyst_pii} login;
        alter role {eraser} login;
        grant pg_read_all_data to {eraser}; -- it also looks for who is forgotten in tables of people's own
    end if;
    if exists (select from pg_roles where rolname = '{auditor}' and not rolcanlogin) then
        alter role {auditor} login;
    end if;
    if exists (select from pg_roles where rolname = '{monitor}' and not rolcanlogin) then
        alter role {monitor} login;
    end if;
    -- However many colleagues have come by the network, the warehouse's own processes find a connection.
    if not pg_has_role('{loader}', 'pg_use_reserved_connections', 'member') then
        grant pg_use_reserved_connections to {loader}, {transformer}, {monitor}, {eraser};
    end if;
end
$$;

-- Its search_path is without "$user": whoever may create schemas could put functions into one that is named like
-- somebody's login.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
    execute format(
        'grant create, connect, temporary on database %I to %I, %I', current_database(), '{loader}', '{transformer}'
    );
    execute format(
        'grant connect on database %I to %I, %I, %I', current_database(), '{analyst}', '{auditor}', '{monitor}'
    );
    execute format('alter database %I set search_path = public', current_database());
end
$$;
revoke create on schema public from public;

grant select, insert, delete on ops.views_down to {view_keeper};
grant usage on schema ops to {view_keeper};
do $$
begin
    if exists (
        select from pg_proc
        where oid = 'ops.put_views_up(regclass)'::regprocedure and proowner <> quote_ident('{view_keeper}')::regrole
    ) then
        grant create on schema ops to {view_keeper};
        alter function ops.take_views_down(regclass) owner to {view_keeper};
        alter function ops.put_views_up(regclass) owner to {view_keeper};
        revoke create on schema ops from {view_keeper};
    end if;
end
$$;
revoke all on function ops.take_views_down(regclass), ops.put_views_up(regclass) from public;
revoke all on function ops.widen_column(regclass, name, text) from public;
grant execute on function
    ops.take_views_down(regclass), ops.put_views_up(regclass), ops.widen_column(regclass, name, text)
to {loader};

revoke all on function ops.lock_holder(bigint), ops.build_lock(text), ops.take_lock(bigint, text, boolean) from public;
grant execute on function ops.lock_holder(bigint), ops.build_lock(text), ops.take_lock(bigint, text, boolean)
to {transformer};

grant usage on schema ops to {loader}, {transformer}, {auditor}, {monitor};
grant select on
    ops.run_states, ops.stage_performance_now, ops.latency_now, ops.source_freshness, ops.quality_scores,
    ops.quarantine_state, ops.shape_changes, ops.lags, ops.publish_state, ops.storage_growth, ops.model_costs,
    ops.backup_health, ops.twin_lag
to {monitor};
grant select, insert, update on
    ops.load_audit, ops.watermarks, ops.quarantine, ops.schema_changes, ops.raw_tables, ops.files_not_loaded to {loader};
grant select, insert, delete on ops.known_messages to {loader};
grant select, insert, update on ops.locks to {loader}, {transformer};
grant delete on ops.quarantine, ops.watermarks, ops.raw_tables to {loader};
grant select, insert, update, delete on ops.observations, ops.anomalies, ops.archives to {loader};
grant usage on all sequences in schema ops to {loader};
grant create on schema ops to {transformer};
grant select on all tables in schema ops to {transformer};
grant insert, update, delete on
    ops.model_watermarks, ops.whole_builds, ops.model_versions, ops.model_states to {transformer};
grant usage on sequence ops.model_versions_version_seq to {transformer};
grant insert on ops.profiles to {transformer};
-- In earlier versions dbt's records were its own: it could have put a trigger on one, or a view in the place of one, and
-- that would have run as whoever reads or prunes it, the owner included. What it may do with them is granted after that,
-- since rights of who owned a table become those of who owns it.
do $$
declare
    written regclass;
begin
    for written in
        select oid from pg_class
        where relnamespace = 'ops'::regnamespace and relowner = quote_ident('{transformer}')::regrole and relkind = 'r' and relname in (
            'model_audits', 'unpublished', 'publish_holds', 'builds', 'publishes', 'published_months'
        )
    loop
        execute format('alter table %s owner to current_user', written);
    end loop;
end
$$;
grant select, insert, update, delete on
    ops.model_audits, ops.unpublished, ops.publish_holds, ops.builds, ops.publishes, ops.published_months,
    ops.published_marts to {transformer};
grant usage on sequence ops.publishes_publish_id_seq to {transformer};
grant select, insert, update on ops.runs, ops.steps, ops.lags, ops.table_sizes, ops.objectives to {loader}, {transformer};
grant delete on ops.lags to {loader};
grant select, insert, update, delete on ops.twin_state to {transformer};
grant select, insert, update, delete on ops.signals to {loader}, {transformer};
grant usage on schema ops to {eraser};
grant select, insert, update on ops.erasures, ops.erased_rows, ops.erased_totals to {eraser};
grant update on ops.profiles to {eraser};
grant select on all tables in schema ops to {eraser};
grant usage on all sequences in schema ops to {eraser};

-- An auditor reads all records, also those that dbt keeps, but of refused rows and those that are
-- delivered not what was in them (`identity` is a digest of it). Loaders had, in earlier versions, what is not theirs. Each statement changes what is different only:
-- others are at work meanwhile.
do $$
declare
    record record;
begin
    for record in
        select cast(tables.oid as regclass) as name, tables.oid, pg_get_userbyid(tables.relowner) as owner
        from pg_class as tables
        where tables.relnamespace = 'ops'::regnamespace and tables.relkind in ('r', 'v')
    loop
        if
            record.name not in ('ops.quarantine'::regclass, 'ops.delivered_rows'::regclass)
            and not has_table_privilege('{auditor}', record.oid, 'select')
        then
            execute format('grant select on %s to %I', record.name, '{auditor}');
        end if;
        if
            (
                record.owner = '{transformer}'
                or record.name in (
                    'ops.profiles'::regclass, 'ops.model_watermarks'::regclass, 'ops.whole_builds'::regclass,
                    'ops.model_versions'::regclass, 'ops.model_states'::regclass, 'ops.model_audits'::regclass,
                    'ops.unpublished'::regclass, 'ops.publish_holds'::regclass, 'ops.builds'::regclass,
                    'ops.publishes'::regclass, 'ops.published_months'::regclass,
                    'ops.erasures'::regclass, 'ops.erased_rows'::regclass, 'ops.erased_totals'::regclass
                )
            )
            and has_table_privilege('{loader}', record.oid, 'insert')
        then
            execute format('revoke all on %s from %I', record.name, '{loader}');
        end if;
    end loop;
end
$$;
grant select on ops.erasures, ops.freshness to {loader};
grant select (
    quarantine_id, load_id, source, table_name, unit, row_number, line, column_name, reason, contract_version, status,
    replayed_load_id, first_seen_at, last_seen_at
) on ops.quarantine to {auditor};
grant select (
    delivery, digest, is_there, batch, op, refused_at, quarantine_id, first_refused_at, is_dropped
) on ops.delivered_rows to {auditor};

set role {loader};
alter default privileges grant select on tables to {transformer};
set role {transformer};
alter default privileges in schema ops grant select on tables to {auditor};
reset role;

-- What somebody has made as the owner among the loaders' tables, or among dbt's, is theirs: they work with their own
-- rights only, and could not change it. (dbt itself made some as the owner in earlier versions, after an error.)
do $$
declare
    stray record;
begin
    for stray in
        select n.nspname as name
        from pg_namespace as n
        where pg_get_userbyid(n.nspowner) = current_user and n.nspname not in ('ops', 'public') and n.nspname !~ '^pg_'
            and exists (select from pg_class as c where c.relnamespace = n.oid and pg_get_userbyid(c.relowner) = '{transformer}')
    loop
        execute format('alter schema %I owner to %I', stray.name, '{transformer}');
    end loop;
    for stray in
        select cast(c.oid as regclass) as name, pg_get_userbyid(n.nspowner) as owner
        from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
        where pg_get_userbyid(c.relowner) = current_user and c.relkind in ('r', 'p', 'v', 'm')
            and pg_get_userbyid(n.nspowner) in ('{loader}', '{transformer}')
    loop
        execute format('alter table %s owner to %I', stray.name, stray.owner);
    end loop;
end
$$;

do $$
begin
    if not exists (select from pg_event_trigger where evtname = 'granary_schemas') then
        create event trigger granary_schemas on ddl_command_end
        when tag in ('CREATE SCHEMA', 'ALTER SCHEMA') execute function ops.guard_schemas();
    end if;
    if not exists (select from pg_event_trigger where evtname = 'granary_changes') then
        create event trigger granary_changes on ddl_command_end execute function ops.note_change();
        create event trigger granary_drops on sql_drop execute function ops.note_drop();
    end if;
exception when insufficient_privilege then
    null;
end
$$;

-- What runs of dbt call, and what carries the marts to where they are read: with the rights of dbt, who calls it.
do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid from pg_proc as p
        where p.pronamespace = 'ops'::regnamespace and p.proname in (
            'texts', 'column_list', 'columns_of', 'views_on', 'plan_mart', 'is_in_ledger', 'lock_briefly', 'grant_relation',
            'grant_schema', 'comment_as_built', 'masked_query', 'show_masked', 'make_columns_ready', 'begin_publish',
            'in_scope', 'of_partitions', 'same_row', 'digest_query', 'add_to_delta', 'count_all', 'create_indexes', 'create_mart',
            'change_mart', 'swap', 'write_publish', 'loads_seen', 'publish', 'refusal', 'plan_publish', 'refuse',
            'hold_shrinking', 'unseen_versions', 'increment_state', 'find_partitions', 'in_partitions', 'write_increment',
            'note_rebuild', 'make_delta', 'remember_inputs', 'prune_deltas', 'set_watermark', 'advance_watermark', 'follow_watermark',
            'follow_corrections',
            'check_inputs', 'publish_lock', 'hold_publishing', 'settle_holds', 'release_vanished', 'failed_results',
            'record_build', 'has_rows', 'without_data', 'holds', 'check_personal', 'start_run', 'end_run', 'prepare_publish',
            'range_column', 'ranges_of', 'range_start', 'plan_ranges', 'unarchived', 'attach_range', 'make_ranges', 'create_ranged',
            'name_ranges', 'with_values', 'analyze_ranges', 'archived_changes', 'archive_ranges', 'undo_archive',
            'forget_shrinking', 'ledger_differences', 'loads_without_rows', 'indexes_of', 'declared_indexes', 'is_mart', 'masked_columns',
            'marts', 'day_of', 'columns_for_dbt', 'create_declared_indexes', 'missing_indexes', 'can_hold', 'model_schemas',
            'record_unpublished', 'audit', 'loads_at_fault', 'is_tested_by_partition', 'version_seen', 'relation_of', 'delta_of', 'publish_script',
            'erased_loads', 'load_seen_before',
            'history_of', 'unhashed', 'row_digest', 'shown_publish', 'mart_after', 'plan_now', 'digest_of', 'verify_marts', 'kept_plan',
            'make_history', 'counted_rows', 'keep_come', 'keep_gone', 'forbid_loops', 'has_key', 'net_history', 'drop_undone', 'digest_before', 'end_changed', 'end_line',
            'keep_publish', 'forget_vanished', 'settle_history', 'net_query', 'same_key', 'show_mart', 'wait_for_release',
            'show_publish', 'as_of_schema', 'as_of_views', 'as_of_query', 'show_mart_as_of', 'show_as_of', 'people_views_on',
            'end_history', 'renew_as_of', 'prune_history', 'drop_as_of', 'drop_history_of_vanished', 'release_undo', 'write_months'
        )
    loop
        execute format('revoke all on function %s from public', function);
        execute format('grant execute on function %s to %I', function, '{transformer}');
    end loop;
end
$$;
