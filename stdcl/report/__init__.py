"""From rows to tables and figures. Runs on a laptop: no torch, no Ray."""
