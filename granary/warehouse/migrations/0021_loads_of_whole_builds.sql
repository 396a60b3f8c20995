-- The last whole build is known by the newest load of each source. By the newest of all, a load that had begun before it,
-- of another source, and was committed after, was passed over. The next build writes the row anew.

do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = 'ops.whole_builds'::regclass and attname = 'load_id' and not attisdropped
    ) then
        delete from ops.whole_builds;
        alter table ops.whole_builds drop column load_id;
        alter table ops.whole_builds add column loads jsonb not null default '{}';
    end if;
end
$$;
