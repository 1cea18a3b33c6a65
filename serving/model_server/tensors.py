"""Tensors of requests and responses: from TensorProto to array, checked against the signature, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.model_server.status import invalid

Array = npt.NDArray[Any]

# A TensorProto may leave out repeated values, so that a few bytes can ask for any amount of memory.
MAX_ELEMENTS = 1 << 24

# Where the values of a type lie in a TensorProto; the stock server answers in these fields, not in `tensor_content`.
_FIELDS = {
    np.dtype(np.float32): "float_val",
    np.dtype(np.float64): "double_val",
    np.dtype(np.int32): "int_val",
    np.dtype(np.int64): "int64_val",
    np.dtype(np.bool_): "bool_val",
    np.dtype(object): "string_val",
}


class Input:
    """One input of a signature, as its TensorInfo declares it."""

    def __init__(self, name: str, info: Any) -> None:
        self.name = name
        self._type: int = info.dtype
        self._shape: list[int | None] | None = None
        if not info.tensor_shape.unknown_rank:
            self._shape = [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim]

    def parse(self, tensor: Any) -> Array:
        """The array in a TensorProto; text is an array of bytes objects.

        Raises:
            Refusal: INVALID_ARGUMENT, naming this input: another type or shape than declared, or not a tensor.
        """
        if tensor.dtype != self._type:
            raise invalid(
                f"input {self.name}: expected {tf.dtypes.as_dtype(self._type).name}, got {_type_name(tensor.dtype)}"
            )
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
            raise invalid(f"tensor parsing error: {self.name}")
        if not self._admits(shape):
            raise invalid(f"input {self.name}: expected shape {_shown(self._shape)}, got {_shown(shape)}")
        elements = 1
        for size in shape:
            elements *= size
        if elements > MAX_ELEMENTS:
            raise invalid(f"input {self.name}: {elements} elements, more than {MAX_ELEMENTS}")
        try:
            array: Array = tf.make_ndarray(tensor)
        except (ValueError, TypeError) as error:
            raise invalid(f"tensor parsing error: {self.name}") from error
        return array

    def _admits(self, shape: Sequence[int]) -> bool:
        if self._shape is None:
            return True
        return len(shape) == len(self._shape) and all(
            declared is None or size == declared for size, declared in zip(shape, self._shape, strict=True)
        )


def pack(array: Array, into: Any) -> None:
    """Writes an array into an empty TensorProto."""
    field = _FIELDS.get(array.dtype)
    if field is None:
        into.CopyFrom(tf.make_tensor_proto(array))
        return
    into.dtype = tf.string.as_datatype_enum if field == "string_val" else tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        into.tensor_shape.dim.add().size = size
    getattr(into, field).extend(array.ravel().tolist())


def _type_name(number: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(number).name)
    except TypeError:
        return f"type {number}"


def _shown(shape: Sequence[int | None] | None) -> str:
    return "[" + ",".join("?" if size is None else str(size) for size in shape or ()) + "]"
