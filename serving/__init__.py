"""Everything online, from the feature store to the rollout controller."""
