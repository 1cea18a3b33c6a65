"""Features in batch: the declaration computed over a whole log, in memory or as a Beam transform."""

from components.features.beam import ComputeFeatures
from components.features.engine import compute_features
from components.features.precision import to_float32
from components.features.table import build_feature_table, feature_batches, features_on_beam

__all__ = [
    "ComputeFeatures",
    "build_feature_table",
    "compute_features",
    "feature_batches",
    "features_on_beam",
    "to_float32",
]
