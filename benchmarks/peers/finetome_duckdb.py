"""duckdb: one COPY … TO json."""

import sys

import duckdb

source, target = sys.argv[1:3]


def first_of(role: str) -> str:
    return f"list_filter(conversations, lambda turn: turn['from'] = '{role}')[1]['value']"


duckdb.sql(
    f"""
    COPY (
        SELECT
            {first_of("human")} AS instruction,
            '' AS input,
            concat('<think>\n\n</think>\n\n', {first_of("gpt")}) AS output,
            coalesce({first_of("system")}, '') AS system,
            []::VARCHAR[] AS history
        FROM read_parquet('{source}')
    ) TO '{target}' (FORMAT json)
    """
)
