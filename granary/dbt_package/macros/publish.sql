{#-
    Write, audit, publish. dbt builds the marts in the schema `build`; what analysts read, in `marts`, are ordinary tables
    that nothing but this step writes: in one transaction for all of them, with insert and delete only, so that readers
    neither wait nor fail nor see one mart before and another after. See docs/engine/decisions/0016. Marts with personal columns
    are such tables in the schema `personal`, behind views in `marts`: personal.sql.
-#}

{#-
    On-run-end: settle what holds publishing, keep how the run ended, then publish what was built and is not published yet.
    dbt runs the statements that a hook returns; each `run_query` before is a transaction of its own (dbt's hooks commit at
    once). A run of which everything succeeded and that may not publish fails all the same: dbt exits with 1.
-#}
{% macro finish_run(results) -%}
    {%- if execute and flags.WHICH != 'freshness' -%}
        {%- do run_query('set role ' ~ target.role) -%}
        {%- set failed = granary.settle_holds(results) -%}
        {%- do granary.release_vanished() -%}
        {%- do granary.record_build(results) -%}
        {%- if flags.WHICH != 'test' and var('publish') -%}
            {{ granary.publish_script(fails=not failed and not flags.EMPTY) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    `dbt run-operation publish`: publish what waits, for instance after `dbt build --vars 'publish: false'`. `despite`: the
    names of nodes that hold it and are to be overlooked this once.
-#}
{% macro publish(despite=[]) -%}
    {%- do run_query('set role ' ~ target.role) -%}
    {%- do run_query(granary.create_publish_records()) -%}
    {%- do granary.release_vanished() -%}
    {%- set script = granary.publish_script([despite] if despite is string else despite) -%}
    {%- if script | trim -%}{%- do run_query(script) -%}{%- endif -%}
{%- endmacro %}

{#- The statements of a publish; if something holds it, one that fails and says what, or, unless `fails`, a warning. -#}
{% macro publish_script(despite=[], fails=true) -%}
    {#- Held until the script has ended, or the connection has. -#}
    {%- do run_query('select ops.take_lock(' ~ granary.publish_lock() ~ ", 'publishing', false)") -%}
    {%- do granary.forget_shrinking() -%}
    {%- set waiting = [] -%}
    {%- set known = granary.marts() -%}
    {%- set recorded = run_query(
        "select distinct mart from ops.unpublished where schema_name = '" ~ granary.published_schema() ~ "' order by mart") -%}
    {%- for row in recorded.rows if row[0] in known -%}
        {%- do waiting.append(row[0]) -%}
    {%- endfor -%}
    {%- set holds = granary.publish_holds(despite) -%}
    {%- set marts = granary.describe_marts(known, waiting) if waiting and not holds else [] -%}
    {%- if marts -%}
        {%- do granary.hold_shrinking(marts) -%}
        {%- set holds = granary.publish_holds(despite) -%}
    {%- endif -%}
    {%- if marts and not holds -%}
        {%- do granary.forget_shrinking() -%}
        {%- do granary.tell_of_marts_without_a_model(known) -%}
        {%- set held = granary.grants_held() -%}
        {{ granary.script_for(marts, held, granary.grant_others(known, waiting, held)) }}
    {%- else -%}
        {%- do run_query('select pg_advisory_unlock(' ~ granary.publish_lock() ~ ')') -%}
        {%- if waiting and holds and fails -%}
            {{ granary.raise_in_database(granary.words_of_holds(holds)) }}
        {%- elif waiting and holds -%}
            {%- do exceptions.warn(granary.words_of_holds(holds)) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- A statement that fails with these words: unlike an error in a hook's template, dbt counts it and ends as usual. -#}
{% macro raise_in_database(words) -%}
    do $granary$ begin raise exception '%', {{ granary.quoted(words) }}; end $granary$;
{%- endmacro %}

{#- Tables that analysts may rely on and that no model fills any more stay as they are; a person drops them. -#}
{% macro tell_of_marts_without_a_model(known) -%}
    {%- for row in run_query(
        "select relname from pg_class where relkind in ('r', 'v') and relnamespace = to_regnamespace('" ~ granary.published_schema()
        ~ "') order by relname").rows if row[0] not in known -%}
        {%- do exceptions.warn(granary.published_schema() ~ '.' ~ row[0]
            ~ ' is built by no model any more and stays as it was; drop it when nobody needs it.') -%}
    {%- endfor -%}
{%- endmacro %}

{#- The whole script: columns that are new first, then everything else in one transaction. -#}
{% macro script_for(marts, held, other_grants) -%}
    {%- set schema = granary.published_schema() -%}
    {%- for mart in marts if mart.way == 'refuse' -%}
        {%- set it = 'it' if mart.dependants | length == 1 else 'them' -%}
        {{ granary.raise_in_database(
            'nothing was published: ' ~ mart.shown ~ (
                ' becomes a view that masks personal data' if mart.moves
                else ' would lose or retype ' ~ mart.lost | join(', ')
            ) ~ ', and ' ~ mart.dependants | join(', ') ~ ' depend' ~ ('s' if it == 'it') ~ ' on it. Drop ' ~ it
            ~ (', run again and create ' ~ it ~ ' anew' if mart.moves else ' and run again, or keep the column')
        ) }}
    {%- endfor %}
    {%- if marts | selectattr('has_view') | list %}
    create schema if not exists {{ granary.personal_schema() }};
    {%- endif %}
    {%- for mart in marts if mart.moves %}
    {{ granary.move_behind_view(mart) }}
    {%- endfor %}
    {%- for mart in marts if mart.way == 'widen' %}
    begin;
    {{ granary.lock_briefly(mart.published) }}
    {%- for column in mart.added %}
    alter table {{ mart.published }} add column {{ column }} {{ mart.types[column] }};
    {%- endfor %}
    commit;
    {%- endfor %}
    begin;
    create schema if not exists {{ schema }};
    create temporary table publish_now on commit drop as
    select nextval(pg_get_serial_sequence('ops.publishes', 'publish_id')) as publish_id, clock_timestamp() as started_at;
    create temporary table publish_scope on commit drop as
    select unpublished_id, mart, partition from ops.unpublished where schema_name = '{{ schema }}';
    create temporary table publish_delta (
        mart text, business_month date, last_date date, rows_inserted bigint, rows_deleted bigint, measures jsonb
    ) on commit drop;
    {{ granary.adopt(marts) }}
    {%- for mart in marts %}
    {{ granary.publish_mart(mart) }}
    {%- endfor %}
    {{ granary.write_ledger(marts) }}
    delete from ops.unpublished where unpublished_id in (select unpublished_id from publish_scope);
    {{ granary.analyze_what_changed(marts) }}
    {{ granary.grant_published(marts, held) }}
    {{ other_grants }}
    {%- for mart in marts if mart.way == 'replace' %}
    {{ granary.swap(mart) }}
    {%- endfor %}
    {{ granary.show_published(marts | selectattr('has_view') | list, held) }}
    commit;
    select pg_advisory_unlock({{ granary.publish_lock() }})
{%- endmacro %}

{#-
    Take the lock that changing a table's columns needs. Whoever reads meanwhile queues behind it, so it is asked for in
    slices of 100 ms, with pauses in which the queue moves on.
-#}
{% macro lock_briefly(relation) -%}
    do $granary$
    begin
        {{ granary.attempts_to_lock(relation) }}
    end $granary$;
{%- endmacro %}

{#- The same within a block; of a view, what it reads is locked as well. -#}
{% macro attempts_to_lock(relation) -%}
        declare
            usual constant text := current_setting('lock_timeout');
        begin
            perform set_config('lock_timeout', '100ms', true);
            for attempt in 1 .. 300 loop
                begin
                    lock table {{ relation }} in access exclusive mode;
                    exit;
                exception when lock_not_available then
                    if attempt = 300 then
                        raise exception 'nothing was published: the columns of {{ relation }} are to change, and for a'
                            ' minute some query has not let go of it; see pg_stat_activity, then run again';
                    end if;
                    perform pg_sleep(0.1);
                end;
            end loop;
            perform set_config('lock_timeout', usual, true);
        end;
{%- endmacro %}

{#- A mart whose columns change and that nobody's view depends on: the new table takes the place of the old. -#}
{% macro swap(mart) -%}
    {%- if mart.is_shown or mart.moves %}
    {{ granary.lock_briefly(mart.shown) }}
    drop view {{ mart.shown }};
    {%- else %}
    {{ granary.lock_briefly(mart.published) }}
    {%- endif %}
    drop table {{ mart.published }};
    alter table {{ mart.table }} rename to {{ mart.name }};
    {%- for index in mart.indexes %}
    alter index {{ mart.schema }}.{{ index.name }}__new rename to {{ index.name }};
    {%- endfor %}
{%- endmacro %}

{#- Sampled statistics for marts of which more than one row in a hundred is new. -#}
{% macro analyze_what_changed(marts) -%}
    do $granary$
    declare
        changed record;
    begin
        for changed in
            select wanted.relation
            from (
                values
                {% for mart in marts %}('{{ mart.name }}', '{{ mart.table }}'){{ ', ' if not loop.last }}{% endfor %}
            ) as wanted (mart, relation)
            inner join publish_delta as delta on wanted.mart = delta.mart
            inner join pg_class as tables on tables.oid = wanted.relation::regclass
            group by wanted.relation, tables.reltuples
            having sum(delta.rows_inserted + delta.rows_deleted) > greatest(tables.reltuples, 0) / 100
        loop
            execute 'analyze ' || changed.relation;
        end loop;
    end $granary$;
{%- endmacro %}

{% macro quoted(text) -%}
    '{{ text | replace("'", "''") }}'
{%- endmacro %}
