"""Where a trial's numbers go: sinks for the history file and for Weights & Biases."""
