{#-
    The incremental strategy overwrite_partitions: delete every partition that changed, also those that have no rows any
    more (which delete+insert leaves alone), and insert what the model selected for them. `unique_key` is the column of
    the partition, `meta.changes` the log model.
-#}
{% macro overwrite_partitions(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    delete from {{ arg_dict['target_relation'] }}
    where {{ arg_dict['unique_key'] }} = any(array({{ granary.published_partitions(model) }}));

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
{%- endmacro %}
