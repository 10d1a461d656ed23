"""The sha256 of streams that are hashed two at a time is each one's own, whoever hashes it and when."""

import hashlib
import random
import threading

import pytest

from prep.storage import stream_hash
from prep.storage.stream_hash import StreamHash, open_hash

SIZES = (0, 1, 55, 56, 64, 65, 1_000, 1 << 18, 300_001, 9 << 20)


@pytest.fixture(params=("paired", "alone"))
def is_paired(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "alone":
        monkeypatch.setattr(stream_hash, "_find_fast", lambda: None)
    elif stream_hash._find_fast() is None:
        pytest.skip("this CPU has no instructions for SHA-256")


@pytest.mark.usefixtures("is_paired")
def test_streams_that_come_together_have_their_own_hashes() -> None:
    random_ = random.Random(7)
    streams = [(open_hash(), hashlib.sha256()) for _ in range(3)]
    for number in range(60):
        stream, known = random_.choice(streams)
        block = random_.randbytes(random_.choice(SIZES[:-1] if number % 20 else SIZES))
        stream.update(block)
        known.update(block)
        if number % 7 == 0:
            assert stream.hexdigest() == known.hexdigest()
    assert [stream.hexdigest() for stream, _ in streams] == [known.hexdigest() for _, known in streams]


@pytest.mark.usefixtures("is_paired")
def test_streams_of_several_threads_have_their_own_hashes() -> None:
    blocks = [bytes([number]) * (200_000 + number) for number in range(50)]
    made: dict[int, str] = {}

    def hash_all(name: int) -> None:
        stream = open_hash()
        for block in blocks[name:]:
            stream.update(block)
            stream.wait_for_others(0.001)
        made[name] = stream.hexdigest()

    threads = [threading.Thread(target=hash_all, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == {name: hashlib.sha256(b"".join(blocks[name:])).hexdigest() for name in range(4)}


@pytest.mark.usefixtures("is_paired")
def test_a_stream_that_nobody_wants_holds_nothing_back() -> None:
    given_up, kept = open_hash(), open_hash()
    given_up.update(bytes(100_000))
    given_up.close()
    kept.update(bytes(600_000))
    kept.update(bytes(9 << 20))
    assert kept.hexdigest() == hashlib.sha256(bytes(600_000 + (9 << 20))).hexdigest()


def test_a_hash_without_blocks_is_that_of_nothing() -> None:
    for stream in (open_hash(), StreamHash()):
        assert stream.hexdigest() == hashlib.sha256().hexdigest()
        stream.close()
