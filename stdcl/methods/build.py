"""From a configuration to the method that it names."""

from __future__ import annotations

from stdcl import specs
from stdcl.config import RunConfig
from stdcl.errors import UserError
from stdcl.methods.base import FeatureShapes, Method, Task


def method_taps(config: RunConfig) -> tuple[str, ...]:
    """Return the encoder outputs that the configuration's method reads beside the standard ones."""
    spec = _spec(config)
    return () if spec is None else spec.taps(getattr(config, spec.section))


def build_method(config: RunConfig, task: Task, shapes: FeatureShapes) -> Method:
    """Return the configuration's method, not yet started.

    Raises:
        UserError: the method's options do not fit the data or the encoder.
    """
    spec = _spec(config)
    if spec is None:
        return Method()
    method = specs.load(spec.build)(getattr(config, spec.section), task, shapes)
    if not isinstance(method, Method):
        raise UserError(
            f"method.name: {spec.name}: it makes a {type(method).__name__}; a stdcl.methods.base.Method is expected"
        )
    return method


def _spec(config: RunConfig) -> specs.MethodSpec | None:
    return specs.method(config.method_name) if config.method_name else None
