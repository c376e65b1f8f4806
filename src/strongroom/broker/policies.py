"""Policies of the store, read once: the same texts are asked for at every release."""

from __future__ import annotations

from functools import lru_cache

from strongroom.attestation.policy import Policy


@lru_cache(maxsize=64)
def policy_of(text: str) -> Policy:
    """The policy of a text.

    Raises:
        ConfigError: `policy-invalid`.
    """
    return Policy.parse(text)
