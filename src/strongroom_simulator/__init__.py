"""Simulated evidence: quotes in the production formats under a test root made on the spot.

Simulated evidence is NOT protection. It lets a machine without a TEE run the whole of Strongroom with the
production verifiers. A policy refuses it unless it says `allow_simulated = true`.
"""
