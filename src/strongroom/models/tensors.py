"""Whether tensors are those that a manifest asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from strongroom.codec.oip import NUMERIC
from strongroom.errors import ModelError
from strongroom.models.errors import TENSOR_DTYPE, TENSOR_MISSING, TENSOR_SHAPE, TENSOR_UNEXPECTED
from strongroom.models.manifest import TensorSpec

Tensors = Mapping[str, NDArray[np.generic]]
"""Arrays by tensor name."""


def check_tensors(specs: Iterable[TensorSpec], tensors: Tensors) -> None:
    """Check that `tensors` has exactly the tensors of `specs`, of their types and shapes.

    A dimension of -1 in a specification stands for any size from 1.

    Raises:
        ModelError: `tensor-missing`, `tensor-unexpected`, `tensor-dtype-mismatch` or `tensor-shape-mismatch`.
    """
    known = {spec.name: spec for spec in specs}
    for name in known:
        if name not in tensors:
            raise ModelError(TENSOR_MISSING, expected=name)
    for name, array in tensors.items():
        spec = known.get(name)
        if spec is None:
            raise ModelError(TENSOR_UNEXPECTED, found=name[:80], expected=", ".join(known))
        _check_one(spec, array)


def _check_one(spec: TensorSpec, array: NDArray[np.generic]) -> None:
    if array.dtype != NUMERIC.get(spec.datatype, np.dtype(object)):
        raise ModelError(TENSOR_DTYPE, spec.name, found=array.dtype, expected=spec.datatype)
    shape = array.shape
    fits = len(shape) == len(spec.shape) and all(
        size == wanted or (wanted == -1 and size > 0) for size, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise ModelError(TENSOR_SHAPE, spec.name, found=list(shape), expected=list(spec.shape))
