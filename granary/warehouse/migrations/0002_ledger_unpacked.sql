-- What a file's content is known by once it is unpacked: the same rows in another archive are told as a copy.

alter table ops.load_audit add column if not exists unpacked text;
