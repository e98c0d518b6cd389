"""The small store and configuration of the training tests."""

from tests.train.conftest import make_config, small_store

__all__ = ["make_config", "small_store"]
