"""Collectors: how evidence is had on real hosts. Nothing here verifies anything.

Each module is one source. `found` says which of them this host has. Verifiers do not import collectors, and
collectors no verifier: what one makes, the other takes as bytes.
"""
