"""The tests, a package so that they can share builders such as `tests.support.qwen3`."""
