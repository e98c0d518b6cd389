"""stdcl: distributed sweeps for spatial-temporal decoupling contrastive learning on skeletons."""

__version__ = "0.1.0"
