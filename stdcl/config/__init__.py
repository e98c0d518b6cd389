"""The shape of a run and of a sweep; strict loading. Imports neither torch nor ray."""

from stdcl.config.contrast import ContrastConfig
from stdcl.config.fingerprint import changed_keys, fingerprint, to_yaml
from stdcl.config.load import read_run_file
from stdcl.config.model import (
    DataConfig,
    EncoderConfig,
    ResourcesConfig,
    RunConfig,
    TrainingConfig,
)

__all__ = [
    "ContrastConfig",
    "DataConfig",
    "EncoderConfig",
    "ResourcesConfig",
    "RunConfig",
    "TrainingConfig",
    "changed_keys",
    "fingerprint",
    "read_run_file",
    "to_yaml",
]
