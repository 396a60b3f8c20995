-- What a load saw and did not take is called `not loaded` everywhere else; "left" could as well mean what remained.

alter table ops.files_left rename to files_not_loaded;
alter index ops.files_left_pkey rename to files_not_loaded_pkey;
