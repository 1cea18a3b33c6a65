"""Features online: one call reads a transaction's features and adds the transaction to what later ones will see."""

from serving.features.memory import MemoryTable
from serving.features.process import ProcessFeatureStore
from serving.features.sqlite import SqliteTable
from serving.features.store import LATENESS_S, Features, FeatureStore, TableFeatureStore

__all__ = [
    "LATENESS_S",
    "FeatureStore",
    "Features",
    "MemoryTable",
    "ProcessFeatureStore",
    "SqliteTable",
    "TableFeatureStore",
]
