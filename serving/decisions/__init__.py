"""The decision log: what was decided, by whom, and what came of it."""
