"""Ray Train: the cluster, worker groups, and a rank's process."""
