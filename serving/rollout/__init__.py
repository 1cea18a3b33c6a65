"""The rollout: which version decides for which cards, and who moves that on."""
