"""Numbers in sentences."""


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural: `1 row`, `1,200 rows`, `0 copies`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"
