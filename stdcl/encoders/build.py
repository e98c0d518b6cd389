"""From the configuration's encoder section to an encoder."""

from __future__ import annotations

from stdcl import specs
from stdcl.config.section import EncoderOptions
from stdcl.encoders.base import Encoder, Layout
from stdcl.errors import UserError


def build_encoder(options: EncoderOptions, layout: Layout) -> Encoder:
    """Return a freshly initialised encoder; its weights come from torch's current random state.

    Raises:
        UserError: when the encoder cannot be built for this layout.
    """
    build = specs.load(specs.encoder(options.name).build)
    encoder = build(layout, **options.model_dump(exclude={"name"}))
    if not isinstance(encoder, Encoder):
        raise UserError(
            f"encoder.name: {options.name}: it makes a {type(encoder).__name__}; a stdcl.Encoder is expected "
            f"(stdcl check-encoder {options.name})"
        )
    return encoder
