"""polars: scan_ndjson, sink_ndjson."""

import sys

import polars as pl

pl.scan_ndjson(sys.argv[1]).select(
    instruction=pl.col("question"),
    input=pl.lit(""),
    output=pl.concat_str(pl.lit("<think>\n"), pl.col("think"), pl.lit("\n</think>\n\n"), pl.col("answer")),
    system=pl.lit(""),
    history=pl.lit([], dtype=pl.List(pl.String)),
).sink_ndjson(sys.argv[2])
