"""The demonstration: three versions of a model of one simulated bank, two of which deserve to decide."""
