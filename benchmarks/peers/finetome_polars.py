"""polars: a lazy scan, list expressions, sink_ndjson."""

import sys

import polars as pl

turns = pl.col("conversations")


def first_of(role: str) -> pl.Expr:
    values = turns.list.eval(pl.element().struct.field("value").filter(pl.element().struct.field("from") == role))
    return values.list.first()


pl.scan_parquet(sys.argv[1]).select(
    instruction=first_of("human"),
    input=pl.lit(""),
    output=pl.lit("<think>\n\n</think>\n\n") + first_of("gpt"),
    system=first_of("system").fill_null(""),
    history=pl.lit([], dtype=pl.List(pl.String)),
).sink_ndjson(sys.argv[2])
