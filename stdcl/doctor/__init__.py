"""What a machine or a cluster has and lacks for training and sweeps, as short findings."""
