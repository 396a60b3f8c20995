"""What sqlfluff puts in the place of dbt_utils: it renders the models without dbt, and so without packages."""


def generate_surrogate_key(columns: list[str]) -> str:
    """An expression of the right shape."""
    return f"md5({' || '.join(columns)})"
