"""duckdb: read_json, COPY … TO json."""

import sys

import duckdb

source, target = sys.argv[1:3]
duckdb.sql(
    f"""
    COPY (
        SELECT question AS instruction, '' AS input,
            concat('<think>\n', think, '\n</think>\n\n', answer) AS output, '' AS system, []::VARCHAR[] AS history
        FROM read_json('{source}', format='newline_delimited')
    ) TO '{target}' (FORMAT json)
    """
)
