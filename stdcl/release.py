"""The release, which a change of the public names raises: see docs/api.md."""

__version__ = "0.1.0"
