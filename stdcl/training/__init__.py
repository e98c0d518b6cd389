"""One training: from a configuration and a store to checkpoints, a history and a result."""
