"""Policies of the store, read once."""

from __future__ import annotations

import pytest

from strongroom.attestation.policy import Policy
from strongroom.broker.policies import policy_of
from strongroom.errors import ConfigError


def test_a_text_is_read_once(rig) -> None:
    first = policy_of(rig.policy_text)
    assert first == Policy.parse(rig.policy_text)
    assert policy_of(rig.policy_text) is first
    assert policy_of(rig.policy_text + "# other\n") is not first


def test_what_is_no_policy_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ConfigError):
            policy_of("version = 1")
