"""ML Metadata's store as pipelines open it, here and through TFX.

Its client for PostgreSQL (1.17) writes a string with a backslash in it as a literal that the server refuses, and JSON
has many.  So for PostgreSQL backslashes are exchanged for a character of Unicode's private use area on their way in,
and back on their way out.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.metadata import Metadata

_BACKSLASH, _STAND_IN = "\\", "\ue000"


def open_store(connection: metadata_store_pb2.ConnectionConfig) -> MetadataStore:
    """The store, whose tables are made where they are not there yet."""
    store = MetadataStore(connection)
    if _is_postgresql(connection):
        _guard(store)
    return store


class TfxMetadata(Metadata):
    """The store as TFX opens it, each time that it needs it."""

    def __enter__(self) -> TfxMetadata:
        super().__enter__()
        if _is_postgresql(self.connection_config):
            _guard(self.store)
        return self


def _is_postgresql(connection: Any) -> bool:
    return bool(connection.WhichOneof("config") == "postgresql")


def _guard(store: MetadataStore) -> None:
    call = store._pywrap_cc_call

    def guarded(method: Any, request: Message, response: Message) -> None:
        sent = type(request)()
        sent.CopyFrom(request)
        exchange(sent, _BACKSLASH, _STAND_IN)
        call(method, sent, response)
        exchange(response, _STAND_IN, _BACKSLASH)

    store._pywrap_cc_call = guarded


def exchange(message: Any, old: str, new: str) -> None:
    """Exchanges a character for another one in every string of a message, but for the keys of maps."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if isinstance(value, str):
                setattr(message, field.name, value.replace(old, new))
            else:
                value[:] = [one.replace(old, new) for one in value]
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if hasattr(value, "ListFields"):
                exchange(value, old, new)
            elif hasattr(value, "items"):
                for key, one in value.items():
                    if isinstance(one, str):
                        value[key] = one.replace(old, new)
                    elif isinstance(one, Message):
                        exchange(one, old, new)
            else:
                for one in value:
                    exchange(one, old, new)
