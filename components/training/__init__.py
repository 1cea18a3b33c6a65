"""Training of the network: settings, batches, the course of the learning rate, the loop, and what a kill leaves."""
