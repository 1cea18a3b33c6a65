"""Strings go into ML Metadata's store and come out of it as they are."""

from __future__ import annotations

import pytest
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

from pipelines.metadata import TfxMetadata, exchange, open_store
from pipelines.services import MetadataAddress
from tests.databases import Kind, server


def test_every_string_of_a_message_is_exchanged_and_the_keys_of_maps_are_not() -> None:
    request = metadata_store_service_pb2.PutExecutionRequest()
    request.execution.name = "a\\b"
    request.execution.custom_properties["k\\"].string_value = '"\\"'
    request.contexts.add().name = "\\"
    exchange(request, "\\", "/")
    assert request.execution.name == "a/b"
    assert request.execution.custom_properties["k\\"].string_value == '"/"'
    assert request.contexts[0].name == "/"
    exchange(request, "/", "\\")
    assert request.execution.custom_properties["k\\"].string_value == '"\\"'


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_keeps_backslashes_and_quotes(kind: Kind) -> None:
    text = '{"quoted": "a \\"b\\" \\\\ c", \'it\': "\\u00e9 é \\n"}'
    with server(kind, "mlmd") as metadata:
        connection = MetadataAddress(metadata.url, metadata.password_file).connection()
        store = open_store(connection)
        kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name="kind"))
        execution = metadata_store_pb2.Execution(type_id=kind)
        execution.custom_properties["text"].string_value = text
        [written] = store.put_executions([execution])
        with TfxMetadata(connection) as tfx:
            [read] = tfx.store.get_executions_by_id([written])
        del store
    assert read.custom_properties["text"].string_value == text
