"""The tuner: which settings a training is searched for, and how."""
