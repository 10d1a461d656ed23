"""SHA-256 of two streams at a time: `_sha256.c`."""

from typing_extensions import Buffer

START: bytes
IS_FAST: bool

def update(state: bytearray, data: Buffer, /) -> None:
    """Hash more of a stream; raises RuntimeError where IS_FAST is False."""

def update_two(state: bytearray, data: Buffer, other_state: bytearray, other_data: Buffer, /) -> None:
    """Hash more of two streams at once."""

def digest(state: Buffer, /) -> bytes:
    """Return a stream's digest; the stream can go on."""
