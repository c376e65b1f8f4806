from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from strongroom.errors import ModelError
from strongroom.models._openvino_compile import (
    MEASURED_BATCH,
    PROBE_BATCH,
    PROBE_LIMIT,
    Compiled,
    compile_bundle,
    open_graph,
)
from strongroom.models.bundle import Bundle, read_bundle, write_bundle
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.quiet_openvino import op, ov

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
BundleOf = Callable[..., Bundle]


def ticking(*seconds: float) -> Callable[[], float]:
    """A clock for pairs of readings that lie so many seconds apart; it stands still afterwards."""
    readings: Iterator[float] = iter([reading for gap in seconds for reading in (0.0, gap)])
    return lambda: next(readings)


def never() -> float:
    raise AssertionError("nothing is to be measured here")


def batches(compiled: ov.CompiledModel | None) -> int | None:
    if compiled is None:
        return None
    size = compiled.inputs[0].partial_shape[0]
    return -1 if size.is_dynamic else int(size.get_length())


def forms(compiled: Compiled) -> tuple[int | None, int | None, int]:
    return batches(compiled.one), batches(compiled.many), compiled.max_batch


def test_a_model_whose_items_gain_in_company_is_batched(graphs: Any, bundle_of: BundleOf) -> None:
    alone, together = 0.001, 0.001 * PROBE_BATCH / 1.5
    compiled = compile_bundle(bundle_of(graphs.mlp()), SETTINGS, ticking(alone, alone, together, together))
    assert forms(compiled) == (1, -1, MEASURED_BATCH)
    assert compiled.main is compiled.one


def test_a_model_whose_items_gain_too_little_is_not(graphs: Any, bundle_of: BundleOf) -> None:
    alone, together = 0.001, 0.001 * PROBE_BATCH / 1.49
    compiled = compile_bundle(bundle_of(graphs.mlp()), SETTINGS, ticking(alone, alone, together, together))
    assert forms(compiled) == (1, None, 1)


def test_the_faster_of_two_runs_counts(graphs: Any, bundle_of: BundleOf) -> None:
    clock = ticking(0.004, 0.001, 0.9, 0.001 * PROBE_BATCH / 2)
    assert forms(compile_bundle(bundle_of(graphs.mlp()), SETTINGS, clock))[2] == MEASURED_BATCH


def test_a_slow_model_is_not_probed_with_a_batch(graphs: Any, bundle_of: BundleOf) -> None:
    slow = PROBE_LIMIT * 1.01
    assert forms(compile_bundle(bundle_of(graphs.mlp()), SETTINGS, ticking(slow, slow))) == (1, None, 1)


@pytest.mark.parametrize(("max_batch", "wanted"), [(0, (None, -1, 0)), (1, (1, None, 1)), (5, (1, -1, 5))])
def test_what_the_manifest_says_is_not_measured(
    max_batch: int, wanted: Any, graphs: Any, bundle_of: BundleOf
) -> None:
    compiled = compile_bundle(bundle_of(graphs.mlp(), max_batch=max_batch), SETTINGS, never)
    assert forms(compiled) == wanted
    assert compiled.main is (compiled.one or compiled.many)


def test_a_model_of_fixed_shape_is_compiled_as_it_is(graphs: Any, bundle_of: BundleOf) -> None:
    compiled = compile_bundle(bundle_of(graphs.echo((2, 4))), SETTINGS, never)
    assert forms(compiled) == (None, 2, 0)
    assert compiled.main is compiled.many


def test_other_open_dimensions_stay_open(graphs: Any, bundle_of: BundleOf) -> None:
    compiled = compile_bundle(bundle_of(graphs.echo((-1, -1)), max_batch=1), SETTINGS, never)
    assert compiled.one is not None
    assert compiled.one.inputs[0].partial_shape == ov.PartialShape([1, -1])


def test_open_dimensions_do_not_prevent_the_measurement(graphs: Any, bundle_of: BundleOf) -> None:
    assert compile_bundle(bundle_of(graphs.echo((-1, -1))), SETTINGS).max_batch in {1, MEASURED_BATCH}


@pytest.mark.parametrize("missing", ["model.xml", "model.bin"])
def test_both_files_are_needed(missing: str, simple_manifest: Callable[..., Manifest]) -> None:
    files = {name: b"x" for name in ("model.xml", "model.bin", "other") if name != missing}
    bundle = read_bundle(write_bundle(simple_manifest(files), files))
    with pytest.raises(ModelError, match=missing) as caught:
        open_graph(bundle)
    assert caught.value.code == "bundle-files-mismatch"


def test_a_file_that_is_no_graph_is_refused(simple_manifest: Callable[..., Manifest]) -> None:
    files = {"model.xml": b"<net/>", "model.bin": b""}
    with pytest.raises(ModelError, match="model-unreadable"):
        compile_bundle(read_bundle(write_bundle(simple_manifest(files), files)), SETTINGS)


def test_a_graph_that_cannot_be_compiled_for_one_item_is_refused_without_a_quotation(
    bundle_of: BundleOf,
) -> None:
    """Two items of one input make one of the other, so that both cannot have one item."""
    x, y = op.parameter([-1, 4], np.float32, name="x"), op.parameter([-1, 2, 4], np.float32, name="y")
    joined = op.add(op.reshape(x, op.constant(np.array([-1, 2, 4])), special_zero=False), y)
    model = ov.Model([op.result(joined)], [x, y])
    for port, name in ((model.inputs[0], "x"), (model.inputs[1], "y"), (model.outputs[0], "canary")):
        port.tensor.set_names({name})
    with pytest.raises(ModelError) as caught:
        compile_bundle(bundle_of(model, max_batch=1), SETTINGS)
    assert caught.value.code == "model-unreadable"
    assert "canary" not in str(caught.value)


def test_a_graph_of_another_manifest_is_refused(graphs: Any, bundle_of: BundleOf) -> None:
    bundle = bundle_of(graphs.mlp())
    manifest = msgspec.structs.replace(bundle.manifest, outputs=(TensorSpec("y", "FP32", (-1, 11)),))
    with pytest.raises(ModelError) as caught:
        compile_bundle(read_bundle(write_bundle(manifest, bundle.files)), SETTINGS)
    assert caught.value.code == "model-manifest-mismatch"
