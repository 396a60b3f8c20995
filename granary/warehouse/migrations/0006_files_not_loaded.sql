-- What a load saw and did not take is called `not loaded` everywhere else; "left" could as well mean what remained.
-- Where the new table is there already, the records of migrations were lost, and 0001 has made the old one anew, empty.

do $$
begin
    if to_regclass('ops.files_not_loaded') is null then
        alter table ops.files_left rename to files_not_loaded;
        alter index ops.files_left_pkey rename to files_not_loaded_pkey;
    else
        drop table ops.files_left;
    end if;
end
$$;
