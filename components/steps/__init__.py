"""The pipeline's steps as TFX knows them: each unpacks artifacts, calls one function of `components`, and packs its result."""
