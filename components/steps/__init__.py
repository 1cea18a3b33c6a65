"""The pipeline's steps as TFX knows them: each unpacks artifacts, calls a plain function and packs its result."""
