"""From the configuration's encoder section to an encoder: the one place that lists them all."""

from __future__ import annotations

from typing import assert_never

from stdcl.config.model import AGCNConfig, CTRGCNConfig, EncoderConfig, HCNConfig, HyperformerConfig, InfoGCNConfig
from stdcl.encoders.base import Encoder, Layout


def build_encoder(config: EncoderConfig, layout: Layout) -> Encoder:
    """Return a freshly initialised encoder; its weights come from torch's current random state.

    Raises:
        UserError: when the encoder cannot be built for this layout.
    """
    match config:
        case CTRGCNConfig():
            from stdcl.encoders.ctrgcn import CTRGCN

            return CTRGCN(layout)
        case AGCNConfig():
            from stdcl.encoders.agcn import AGCN

            return AGCN(layout)
        case HCNConfig():
            from stdcl.encoders.hcn import HCN

            return HCN(layout, hidden=config.hidden, dropout=config.dropout, hook=config.hook)
        case HyperformerConfig():
            from stdcl.encoders.hyperformer import Hyperformer

            return Hyperformer(layout, hyperedges=config.hyperedges)
        case InfoGCNConfig():
            from stdcl.encoders.infogcn import InfoGCN

            return InfoGCN(
                layout,
                heads=config.heads,
                noise_ratio=config.noise_ratio,
                prior_gain=config.prior_gain,
                weight_class_mmd=config.weight_class_mmd,
                weight_mean_mmd=config.weight_mean_mmd,
            )
        case _:
            assert_never(config)
