"""The edits that mutants are made with: each changes one expression, and the same one in a unit test of the model."""

from __future__ import annotations

import pytest

from tests.python.project.mutants.edits import edited, edits

SQL = """
with totals as (
    select product_id, sum(amount) as amount, count(distinct basket_id) as baskets
    from "w"."build"."sales" where amount >= 3 and kind < 2 group by product_id
)
select
    cast(totals.amount as numeric(12, 2)) as amount,
    cast(names.price as numeric(12, 2)) as price,
    case when totals.baskets > 1 then 5 else 0 end as often,
    coalesce(names.rank, 9) as rank,
    lag(totals.amount) over (partition by names.shop order by totals.baskets) as before
from totals
left join "w"."build"."names" as names on totals.product_id = names.product_id and names.until > 7
"""
MADE = [
    ("> for >=", "AMOUNT >= 3", "amount > 3"),
    ("<= for <", "KIND < 2", "kind <= 2"),
    (">= for >", "NAMES.UNTIL > 7", "names.until >= 7"),
    ("average for sum", "SUM(AMOUNT)", "AVG(amount)"),
    ("count for count distinct", "COUNT(DISTINCT BASKET_ID)", "COUNT(basket_id)"),
    ("condition left out", "AMOUNT >= 3", "WHERE TRUE AND kind < 2"),
    ("condition left out", "TOTALS.PRODUCT_ID = NAMES.PRODUCT_ID", "ON TRUE AND names.until > 7"),
    ("coalesce left out", "COALESCE(NAMES.RANK, 9)", "names.rank AS rank"),
    ("one more", "COALESCE(NAMES.RANK, 9)", "COALESCE(names.rank, 10)"),
    ("case turned round", "", "CASE WHEN NOT (totals.baskets > 1) THEN 5 ELSE 0 END"),
    ("partition by left out", "", "OVER (ORDER BY totals.baskets)"),
    ("other order", "TOTALS.BASKETS", "ORDER BY totals.baskets DESC NULLS LAST"),
    ("value of the next column", "", "CAST(names.price AS DECIMAL(12, 2)) AS amount"),
    ("inner for left join, or left for inner", "", 'FROM totals JOIN "w"."build"."names" AS names'),
    ("join with every row twice", "", 'JOIN (SELECT * FROM "w"."build"."names" UNION ALL SELECT * FROM'),
]


@pytest.mark.parametrize(("kind", "shown", "made"), MADE)
def test_an_edit_changes_one_expression(kind: str, shown: str, made: str) -> None:
    [edit] = [edit for edit in edits(SQL) if edit.kind == kind and shown in edit.shown.upper()]
    assert made in str(edited(SQL, edit))
    plain = str(edited(SQL, None))
    assert made not in plain
    assert edited(plain, edit) == edited(SQL, edit)


def test_the_same_edit_is_made_where_the_model_reads_what_a_test_gives_it_and_has_other_numbers() -> None:
    test = (
        SQL.replace('"w"."build"."', "__dbt__cte__")
        .replace('names" as', "names as")
        .replace('sales" where', "sales where")
    )
    [edit] = [edit for edit in edits(SQL) if edit.kind == "inner for left join, or left for inner"]
    assert "JOIN __dbt__cte__names AS names" in str(edited(test.replace("> 7", "> 28"), edit))
    assert "LEFT JOIN" not in str(edited(test, edit))


def test_what_a_statement_has_not_is_not_edited() -> None:
    [edit] = [edit for edit in edits(SQL) if edit.kind == "average for sum"]
    assert edited("select 1 as one", edit) is None
