"""The gateway: transactions in by gRPC, decisions out, outcomes back; features, model, rules and log behind it."""
