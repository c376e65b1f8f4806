from __future__ import annotations

import copy
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec.oip import ModelMetadata, TensorMetadata

# The Open Inference Protocol's own example of `$metadata_model_response`, extended by a second input.
OBJECT = {
    "name": "mymodel",
    "versions": ["1", "2"],
    "platform": "openvino_ir",
    "inputs": [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 224, 224, 3]},
        {"name": "scale", "datatype": "FP32", "shape": []},
    ],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 1000]}],
}
VALUE = ModelMetadata(
    "mymodel",
    ("1", "2"),
    "openvino_ir",
    (TensorMetadata("image", "UINT8", (-1, 224, 224, 3)), TensorMetadata("scale", "FP32", ())),
    (TensorMetadata("probabilities", "FP32", (-1, 1000)),),
)
TENSORS = st.lists(
    st.builds(TensorMetadata, st.text(), st.text(), st.lists(st.integers(-1, 2**40)).map(tuple)), max_size=3
).map(tuple)
MODELS = st.builds(ModelMetadata, st.text(), st.lists(st.text()).map(tuple), st.text(), TENSORS, TENSORS)


def test_the_json_form():
    assert VALUE.to_json() == OBJECT
    assert ModelMetadata.from_json(OBJECT) == VALUE
    assert TensorMetadata("x", "FP32", (1,)).to_json() == {"name": "x", "datatype": "FP32", "shape": [1]}


@given(MODELS)
def test_round_trip(model):
    assert ModelMetadata.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_versions_may_be_missing_and_unknown_members_are_ignored():
    value = {name: member for name, member in OBJECT.items() if name != "versions"}
    value["properties"] = {"x": 1}
    value["outputs"] = [OBJECT["outputs"][0] | {"tags": ["a"]}]
    assert ModelMetadata.from_json(value) == ModelMetadata(
        VALUE.name, (), VALUE.platform, VALUE.inputs, VALUE.outputs
    )


@pytest.mark.parametrize("name", ["name", "platform", "inputs", "outputs"])
@pytest.mark.parametrize("wrong", [None, 1, {"a": 1}, [None], ...])
def test_a_missing_or_wrong_member_is_refused(refused, name, wrong):
    value = copy.deepcopy(OBJECT)
    if wrong is ...:
        del value[name]
    else:
        value[name] = wrong
    with refused("oip-invalid", "model metadata"):
        ModelMetadata.from_json(value)


@pytest.mark.parametrize("shape", [None, "", [1.5], [-2], ["1"], [True], {}])
def test_a_wrong_shape_is_refused(refused, shape):
    value = OBJECT | {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape}]}
    with refused("oip-invalid"):
        ModelMetadata.from_json(value)


@pytest.mark.parametrize("value", [None, [], "", 7, b"{}"])
def test_another_value_is_refused(refused, value):
    with refused("oip-invalid"):
        ModelMetadata.from_json(value)


def test_20000_mutants(drive):
    rng = random.Random(4)
    pieces = [None, True, -1, -2, 0, 1.5, 2**70, "", "x", [], [1], {}, {"name": "x"}, OBJECT["inputs"][0]]

    def mutate(value, depth=0):
        """Replace, drop or add one piece at a random depth; the outer value stays an object."""
        if (depth and rng.random() < 0.4) or not isinstance(value, dict | list) or not value:
            return copy.deepcopy(rng.choice(pieces))
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if rng.random() < 0.15:
            del value[key]
        elif rng.random() < 0.15 and isinstance(value, list):
            value.append(copy.deepcopy(rng.choice(pieces)))
        else:
            value[key] = mutate(value[key], depth + 1)
        return value

    def check(value):
        model = ModelMetadata.from_json(value)
        assert ModelMetadata.from_json(model.to_json()) == model

    mutants = [mutate(copy.deepcopy(OBJECT)) for _ in range(20_000)]
    assert sum(isinstance(mutant, dict) for mutant in mutants) >= 10_000
    outcomes = drive(check, ((mutant,) for mutant in mutants))
    assert outcomes.total() == 20_000
    assert outcomes["ok"] >= 1_000
    assert outcomes["oip-invalid"] >= 5_000
