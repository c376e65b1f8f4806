"""Sealed records over Redis Streams."""
