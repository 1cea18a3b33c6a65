"""Features in batch: the declaration computed over a whole log, in memory or as a Beam transform."""
