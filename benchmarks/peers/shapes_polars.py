"""polars: each shape of input to Alpaca JSONL, of conversations the first exchange: SHAPE IN OUT."""

import sys

import polars as pl

EMPTY = "<think>\n\n</think>\n\n"
shape, source, output = sys.argv[1:]


def first_of(column: str, role: str, text: str, name: str) -> pl.Expr:
    turns = pl.col(column).list.eval(
        pl.element().struct.field(text).filter(pl.element().struct.field(role) == name)
    )
    return turns.list.first()


def scan() -> pl.LazyFrame:
    ways = {"parquet": pl.scan_parquet, "jsonl": pl.scan_ndjson, "csv": pl.scan_csv}
    return ways[source.rpartition(".")[2]](source)


CHATS = {
    "sharegpt": ("conversations", "from", "value", "human", "gpt"),
    "messages": ("messages", "role", "content", "user", "assistant"),
}
if shape in CHATS:
    column, role, text, user, assistant = CHATS[shape]
    columns = {
        "instruction": first_of(column, role, text, user),
        "output": pl.lit(EMPTY) + first_of(column, role, text, assistant),
        "system": first_of(column, role, text, "system").fill_null(""),
    }
elif shape == "medical":
    thought = pl.concat_str(pl.lit("<think>\n"), pl.col("think"), pl.lit("\n</think>\n\n"), pl.col("answer"))
    columns = {"instruction": pl.col("question"), "output": thought}
elif shape == "maths":
    columns = {"instruction": pl.col("problem"), "output": pl.col("generated_solution")}
else:
    columns = {"instruction": pl.col("question"), "output": pl.lit(EMPTY) + pl.col("answer")}
others = {"input": pl.lit(""), "system": pl.lit(""), "history": pl.lit([], dtype=pl.List(pl.String))}
scan().select(**{**others, **columns}).sink_ndjson(output)
