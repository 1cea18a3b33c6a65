"""What is spoken of TensorFlow Serving's API has the names, numbers and types of its own messages."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.wrappers_pb2 import Int64Value
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from schemas import tf_serving_pb2 as ours

_Policy = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
PAIRS = [
    (ours.Tensor, tensor_pb2.TensorProto),
    (ours.TensorShape, tensor_shape_pb2.TensorShapeProto),
    (ours.TensorShape.Dim, tensor_shape_pb2.TensorShapeProto.Dim),
    (ours.Number, Int64Value),
    (ours.ModelSpec, model_pb2.ModelSpec),
    (ours.PredictRequest, predict_pb2.PredictRequest),
    (ours.PredictResponse, predict_pb2.PredictResponse),
    (ours.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
    (ours.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
    (ours.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
    (ours.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    (ours.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
    (ours.Status, status_pb2.StatusProto),
    (ours.ReloadConfigRequest, model_management_pb2.ReloadConfigRequest),
    (ours.ReloadConfigResponse, model_management_pb2.ReloadConfigResponse),
    (ours.ModelServerConfig, model_server_config_pb2.ModelServerConfig),
    (ours.ModelConfigList, model_server_config_pb2.ModelConfigList),
    (ours.ModelConfig, model_server_config_pb2.ModelConfig),
    (ours.ServableVersionPolicy, _Policy),
    (ours.ServableVersionPolicy.Specific, _Policy.Specific),
]


def fields(message: Descriptor) -> dict[str, tuple[object, ...]]:
    return {field.name: (field.number, field.type, field.is_repeated) for field in message.fields}


@pytest.mark.parametrize(("mine", "theirs"), PAIRS, ids=lambda message: message.DESCRIPTOR.name)
def test_every_field_is_that_of_the_same_name(mine: Any, theirs: Any) -> None:
    mine, theirs = fields(mine.DESCRIPTOR), fields(theirs.DESCRIPTOR)
    assert mine == {name: theirs[name] for name in mine}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ours.DataType, types_pb2.DataType),
        (ours.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
        (ours.ErrorCode, error_codes_pb2.Code),
    ],
    ids=["types of tensors", "states of versions", "error codes"],
)
def test_every_value_has_its_number(mine: Any, theirs: Any) -> None:
    for name, number in mine.items():
        assert theirs.Value(name) == number


def test_a_request_means_the_same_to_both() -> None:
    request = ours.PredictRequest(output_filter=["score"])
    request.model_spec.name, request.model_spec.version_label = "fraud", "stable"
    tensor = request.inputs["numeric"]
    tensor.dtype, tensor.tensor_content, tensor.float_val[:] = ours.DT_FLOAT, b"1234", [1.5, 2.5]
    tensor.tensor_shape.dim.add(size=2)
    request.inputs["categorical"].string_val.append(b"text")
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert read.model_spec.version_label == "stable"
    assert list(read.inputs["numeric"].float_val) == [1.5, 2.5]
    again = ours.PredictRequest.FromString(read.SerializeToString())
    assert again == request
    request.model_spec.version.value = 7
    assert predict_pb2.PredictRequest.FromString(request.SerializeToString()).model_spec.version.value == 7
