from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import Keyset, KeysetModel
from strongroom.broker.release import ServiceEpoch
from strongroom.crypto.ohttp import encode_key_configs
from strongroom.crypto.sign import SigningKey
from strongroom.errors import CryptoError
from strongroom.worker.errors import WorkerError
from strongroom.worker.keys import ServiceKeys

BROKER = SigningKey.generate()
POLICY = "sha256:" + "1" * 64
LITE0 = KeysetModel("1", "sha256:" + "2" * 64)
OWN = InitData("pictures", BROKER.verifying_key.text, POLICY, ("kbs:///default/model/lite0",))


def _epoch(kit: Any, number: int = 1, *, until: int = 1000, **changes: Any) -> ServiceEpoch:
    keys = (kit.gateway_key(2 * number),)
    fields: dict[str, Any] = {
        "service": "pictures",
        "epoch": number,
        "keys": encode_key_configs(key.config for key in keys),
        "release_policy": POLICY,
        "models": {"lite0": LITE0},
        "not_before": 0,
        "not_after": 5000,
        "broker_key": BROKER.verifying_key.text,
        "key_custodian": "a test",
    } | changes
    return ServiceEpoch(Keyset(**fields), bytes(64), keys, until)


@pytest.fixture
def keys() -> ServiceKeys:
    return ServiceKeys(OWN, {"lite0": LITE0})


def _opens(keys: ServiceKeys, epoch: ServiceEpoch, kit: Any) -> bool:
    sealed = kit.Sealer(epoch.keys[0].config).infer("lite0", kit.x(1, 2, 3, 4))
    try:
        keys.gateway.open_request(sealed.data)
    except CryptoError as error:
        return error.code != "ohttp-unknown-key"
    return True


def _refused(keys: ServiceKeys, *epochs: ServiceEpoch, now: int = 0) -> WorkerError:
    before, gateway = keys.epochs, keys.gateway
    with pytest.raises(WorkerError) as refused:
        keys.accept(epochs, now)
    assert refused.value.code == "service-keys-refused"
    assert keys.epochs == before
    assert keys.gateway is gateway
    return refused.value


def test_before_the_first_epoch_nothing_opens(keys: ServiceKeys, kit: Any) -> None:
    assert keys.current is None
    assert (keys.newest, keys.epochs, keys.ends) == (0, (), ())
    assert not _opens(keys, _epoch(kit), kit)


def test_the_first_epoch_opens(keys: ServiceKeys, kit: Any) -> None:
    epoch = _epoch(kit)
    assert keys.accept((epoch,), 0) is True
    assert keys.current is epoch
    assert _opens(keys, epoch, kit)


def test_the_same_again_changes_nothing(keys: ServiceKeys, kit: Any) -> None:
    epoch = _epoch(kit)
    keys.accept((epoch,), 0)
    assert keys.accept((epoch,), 0) is False


def test_in_the_grace_period_both_open(keys: ServiceKeys, kit: Any) -> None:
    old, new = _epoch(kit, 1, until=100), _epoch(kit, 2)
    keys.accept((old,), 0)
    assert keys.accept((new, old), 0) is True
    assert keys.epochs == (2, 1)
    assert keys.ends == (1000, 100)
    assert keys.current is new
    assert _opens(keys, old, kit)
    assert _opens(keys, new, kit)


def test_an_old_epoch_is_dropped_when_its_time_is_over(keys: ServiceKeys, kit: Any) -> None:
    old, new = _epoch(kit, 1, until=100), _epoch(kit, 2)
    keys.accept((new, old), 0)
    assert keys.drop_expired(99) == ()
    assert keys.drop_expired(100) == (1,)
    assert keys.drop_expired(101) == ()
    assert not _opens(keys, old, kit)
    assert _opens(keys, new, kit)


def test_the_last_epoch_is_dropped_too(keys: ServiceKeys, kit: Any) -> None:
    epoch = _epoch(kit)
    keys.accept((epoch,), 0)
    assert keys.drop_expired(1000) == (1,)
    assert keys.current is None
    assert keys.newest == 1
    assert not _opens(keys, epoch, kit)


def test_what_the_broker_no_longer_lists_is_dropped(keys: ServiceKeys, kit: Any) -> None:
    old, new = _epoch(kit, 1), _epoch(kit, 2)
    keys.accept((old,), 0)
    keys.accept((new,), 0)
    assert not _opens(keys, old, kit)


def test_an_expired_epoch_is_not_taken(keys: ServiceKeys, kit: Any) -> None:
    old, new = _epoch(kit, 1, until=50), _epoch(kit, 2)
    keys.accept((new, old), 50)
    assert keys.epochs == (2,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"service": "texts"}, "service"),
        ({"broker_key": SigningKey.generate().verifying_key.text}, "broker key"),
        ({"release_policy": "sha256:" + "3" * 64}, "release policy"),
        ({"models": {}}, "lite0"),
        ({"models": {"lite0": KeysetModel("2", LITE0.manifest)}}, "lite0"),
        ({"models": {"lite0": KeysetModel("1", "sha256:" + "4" * 64)}}, "lite0"),
    ],
)
def test_each_difference_from_the_init_data_or_the_models_refuses_alone(
    keys: ServiceKeys, kit: Any, change: dict[str, Any], named: str
) -> None:
    assert named in _refused(keys, _epoch(kit, **change)).detail
    keys.accept((_epoch(kit),), 0)
    assert named in _refused(keys, _epoch(kit, 2, **change)).detail


def test_an_older_epoch_of_another_service_is_refused_too(keys: ServiceKeys, kit: Any) -> None:
    assert "service" in _refused(keys, _epoch(kit, 2), _epoch(kit, 1, service="texts")).detail


def test_an_older_epoch_may_lack_models(keys: ServiceKeys, kit: Any) -> None:
    keys.accept((_epoch(kit, 2), _epoch(kit, 1, models={})), 0)
    assert keys.epochs == (2, 1)


@pytest.mark.parametrize(
    "promised", [KeysetModel("0", LITE0.manifest), KeysetModel("1", "sha256:" + "4" * 64)]
)
def test_an_older_epoch_that_promises_another_model_is_left_out(
    keys: ServiceKeys, kit: Any, promised: KeysetModel
) -> None:
    new, old, oldest = _epoch(kit, 3), _epoch(kit, 2, models={"lite0": promised}), _epoch(kit, 1)
    keys.accept((new, old, oldest), 0)
    assert keys.epochs == (3, 1)
    assert not _opens(keys, old, kit)
    assert _opens(keys, new, kit)
    assert _opens(keys, oldest, kit)


def test_further_models_of_the_service_do_no_harm(keys: ServiceKeys, kit: Any) -> None:
    other = KeysetModel("1", "sha256:" + "5" * 64)
    assert keys.accept((_epoch(kit, models={"lite0": LITE0, "other": other}),), 0)


def test_the_epoch_never_runs_backwards(keys: ServiceKeys, kit: Any) -> None:
    first = _epoch(kit, 1)
    keys.accept((_epoch(kit, 2), first), 0)
    assert "epoch" in _refused(keys, first).detail


def test_not_even_after_all_were_dropped(keys: ServiceKeys, kit: Any) -> None:
    keys.accept((_epoch(kit, 2, until=10),), 0)
    keys.drop_expired(10)
    assert "epoch" in _refused(keys, _epoch(kit, 1), now=10).detail


def test_the_keyset_of_an_epoch_never_changes(keys: ServiceKeys, kit: Any) -> None:
    epoch = _epoch(kit)
    keys.accept((epoch,), 0)
    changed = dataclasses.replace(epoch, keyset=dataclasses.replace(epoch.keyset, not_after=6000))
    assert "has changed" in _refused(keys, changed).detail


def test_no_epoch_that_is_honoured_is_a_refusal(keys: ServiceKeys, kit: Any) -> None:
    assert "honoured" in _refused(keys, _epoch(kit, until=10), now=10).detail
    assert "honoured" in _refused(keys).detail


def test_the_gateway_has_a_limit(kit: Any) -> None:
    keys, epoch = ServiceKeys(OWN, {"lite0": LITE0}, limit=10), _epoch(kit)
    keys.accept((epoch,), 0)
    sealed = kit.Sealer(epoch.keys[0].config).infer("lite0", kit.x(1, 2, 3, 4))
    with pytest.raises(CryptoError, match="ohttp-oversize"):
        keys.gateway.open_request(sealed.data)
