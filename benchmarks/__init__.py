"""Benchmarks: one question a file; imported by nothing."""
