-- Text that people wrote, read as what it is: null where it is written otherwise, never an error. Staging models of
-- `granary add-source` use these beside the text itself; what they read is what granary/profiling/written.py counts,
-- which tests/python/engine/authoring/test_written.py compares. Postgres inlines each into the query that calls it: so
-- they are one expression, and as volatile as it is. Everybody may call them, who reads a view that does.

create or replace function ops.day_pattern(style text) returns text
language sql immutable parallel safe
return case style
    when 'ymd' then '^[0-9]{4}[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])$'
    when 'dmy' then '^(0?[1-9]|[12][0-9]|3[01])[-/.](0?[1-9]|1[0-2])[-/.][0-9]{4}$'
    when 'mdy' then '^(0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])[-/.][0-9]{4}$'
    when 'dMy' then '^(0?[1-9]|[12][0-9]|3[01])[- ][A-Za-z]{3,9}[- ,]+[0-9]{4}$'
    when 'Mdy' then '^[A-Za-z]{3,9}[- ](0?[1-9]|[12][0-9]|3[01])[- ,]+[0-9]{4}$'
end;

-- One of the three parts of a day: d, m or y.
create or replace function ops.day_part(value text, style text, part text) returns text
language sql immutable parallel safe
return (regexp_split_to_array(trim(value), '[^A-Za-z0-9]+'))[position(part in lower(style))];

create or replace function ops.month_number(name text, style text) returns integer
language sql immutable parallel safe
return case
    when style ~ 'M' then array_position(
        array['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], lower(left(name, 3))
    )
    else cast(name as integer)
end;

-- A day that there is: 31/02/2023 is null. What is given is worked out at each mention, so that most days have few.
create or replace function ops.real_day(year_number integer, month_number integer, day_number integer) returns date
language sql immutable parallel safe
return case
    when day_number <= 28 then make_date(nullif(year_number, 0), month_number, day_number)
    when extract(month from make_date(nullif(year_number, 0), month_number, 1) + day_number - 1) = month_number
        then make_date(nullif(year_number, 0), month_number, 1) + day_number - 1
end;

-- `style`: ymd, dmy, mdy, or with a month's English name dMy or Mdy.
create or replace function ops.text_as_date(value text, style text) returns date
language sql immutable parallel safe
return case
    when trim(value) ~ ops.day_pattern(style) then ops.real_day(
        cast(ops.day_part(value, style, 'y') as integer), ops.month_number(ops.day_part(value, style, 'm'), style),
        cast(ops.day_part(value, style, 'd') as integer)
    )
end;

create or replace function ops.time_pattern() returns text
language sql immutable parallel safe
return '(([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|(0?[1-9]|1[0-2]):[0-5][0-9](:[0-5][0-9])? ?[AaPp][Mm])$';

-- A time of day, with or without seconds, of 24 or of twice 12 hours.
create or replace function ops.text_as_time(value text) returns time
language sql stable parallel safe
return case when trim(value) ~ ('^' || ops.time_pattern()) then cast(trim(value) as time) end;

create or replace function ops.text_as_timestamp(value text, style text) returns timestamp
language sql stable parallel safe
return case
    when trim(value) ~ ('[ T]+' || ops.time_pattern())
        then ops.text_as_date(regexp_replace(trim(value), '[ T]+' || ops.time_pattern(), ''), style)
            + ops.text_as_time(ltrim(substring(trim(value) from '[ T]+[0-9]+:.*$'), ' T'))
end;

-- Numbers have a decimal mark, "." or ",", and are grouped by threes or not.
create or replace function ops.number_pattern(mark text) returns text
language sql immutable parallel safe
return '([1-9][0-9]{0,2}([' || case mark when '.' then ',' else '.' end || ' ''][0-9]{3})+([' || mark || '][0-9]+)?'
    || '|(0|[1-9][0-9]*)([' || mark || '][0-9]+)?)';

create or replace function ops.digits_of(value text, mark text, pattern text) returns numeric
language sql immutable parallel safe
return case
    when trim(value) ~ pattern then case when value ~ '^[^0-9]*[-(]' then -1 else 1 end
        * cast(replace(regexp_replace(value, '[^0-9' || mark || ']', '', 'g'), ',', '.') as numeric)
end;

-- With a currency, or in brackets, which make it negative.
create or replace function ops.text_as_number(value text, mark text) returns numeric
language sql immutable parallel safe
return ops.digits_of(
    value, mark,
    '^([-+]? ?([$€£¥₹]|EUR|USD|GBP|CHF)? ?[-+]?' || ops.number_pattern(mark) || ' ?([$€£¥₹]|EUR|USD|GBP|CHF)?|[(]('
    || '[$€£¥₹]|EUR|USD|GBP|CHF)?' || ops.number_pattern(mark) || '[)])$'
);

-- As text_as_number, in a column whose numbers have no more than two decimals: 1.000 is null, which may be a thousand.
create or replace function ops.text_as_amount(value text, mark text) returns numeric
language sql immutable parallel safe
return case
    when trim(value) !~ ('^[^0-9]*[1-9][0-9]{0,2}[' || mark || '][0-9]{3}[^0-9]*$')
        then ops.text_as_number(value, mark)
end;

-- 5% is 5.
create or replace function ops.text_as_percent(value text, mark text) returns numeric
language sql immutable parallel safe
return ops.digits_of(value, mark, '^[-+]?' || ops.number_pattern(mark) || ' ?%$');

-- True or false for two words, in any case.
create or replace function ops.text_as_boolean(value text, yes text, no text) returns boolean
language sql immutable parallel safe
return case lower(trim(value)) when yes then true when no then false end;
