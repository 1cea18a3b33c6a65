"""Features online: one call reads a transaction's features and adds the transaction to what later ones will see."""

from serving.features.memory import MemoryTable
from serving.features.opening import EmbeddedStore, RedisStore, StoreAddress, address_of
from serving.features.process import ProcessFeatureStore
from serving.features.sqlite import SqliteTable
from serving.features.store import LATENESS_S, Features, FeatureStore, TableFeatureStore

__all__ = [
    "LATENESS_S",
    "EmbeddedStore",
    "FeatureStore",
    "Features",
    "MemoryTable",
    "ProcessFeatureStore",
    "RedisStore",
    "SqliteTable",
    "StoreAddress",
    "TableFeatureStore",
    "address_of",
]
