"""The embedded model server: TensorFlow Serving's gRPC API in front of SavedModels, versions and labels.

    server.py       starts and stops all of it in one process
    services.py     PredictionService and ModelService: unpack, call, pack
    versions.py     which versions are loaded, in which state, and who still uses them
    config.py       what to serve: models, base paths, version policies, labels
    servable.py     one loaded version: its session, its signatures, its warm-up
    tensors.py      TensorProto to array and back
    metrics.py      what /metrics shows
    status.py       a refusal with its gRPC code

States, codes and messages are TensorFlow Serving's, so that what works here works there.  Where it departs: a version
that cannot be loaded is not tried again, and never keeps the server from starting; a configuration that is refused
changes nothing; a model without any version does not hold up a start or a reload; a wrong type or shape is refused by
the name of its input, and not in the words of the graph.
"""
