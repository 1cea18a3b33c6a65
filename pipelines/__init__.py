"""Composition: configuration, training and promotion pipelines, and the command line."""
