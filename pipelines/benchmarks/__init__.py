"""Benchmarks: how much a part does per second, beside the usual ways of doing the same with the same rows."""
