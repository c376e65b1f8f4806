"""Bytes to values and back: pure, bounded in size, fuzzed."""
