"""The steps of the pipeline: a pure function each, with thin TFX wrappers."""
