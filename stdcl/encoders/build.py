"""From the configuration's encoder section to an encoder."""

from __future__ import annotations

from stdcl import specs
from stdcl.config.section import EncoderOptions
from stdcl.encoders.base import Encoder, Layout


def build_encoder(options: EncoderOptions, layout: Layout) -> Encoder:
    """Return a freshly initialised encoder; its weights come from torch's current random state.

    Raises:
        UserError: when the encoder cannot be built for this layout.
    """
    build = specs.load(specs.encoder(options.name).build)
    encoder: Encoder = build(layout, **options.model_dump(exclude={"name"}))
    return encoder
