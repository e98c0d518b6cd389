"""Try an encoder out before it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stdcl import specs
from stdcl.config.load import parse_override, validate_fragment
from stdcl.encoders.base import Layout
from stdcl.encoders.contract import broken_promises
from stdcl.errors import UserError
from stdcl.skeleton import NTU, NW_UCLA


def check(name: str, overrides: Sequence[str]) -> list[str]:
    """Return a line for each promise that an encoder breaks, on 20 joints with one person and on 25 with two.

    Args:
        name: the encoder's name, or its import path.
        overrides: ``key=value`` texts, its options.

    Raises:
        UserError: there is no such encoder, or its options are wrong.
    """
    spec = specs.encoder(name)
    given = {"name": name, **dict(parse_override(text) for text in overrides)}
    settled = dict(spec.settle(given, {"dataset": "ntu60", "stream": "joint"}))
    options = validate_fragment(spec.options, settled, "--option")
    make = specs.load(spec.build)
    out: list[str] = []
    for skeleton, persons in ((NW_UCLA, 1), (NTU, 2)):
        layout = Layout(skeleton.num_joints, persons, 32, 10, skeleton)

        def build(layout: Layout = layout) -> nn.Module:
            encoder: nn.Module = make(layout, **options.model_dump(exclude={"name"}))
            return encoder

        try:
            with torch.random.fork_rng(devices=[]):
                faults = broken_promises(build, layout)
        except UserError as error:
            faults = [str(error)]
        except Exception as error:  # whatever somebody else's code raises
            faults = [f"fails: {type(error).__name__}: {error}"]
        out += [f"{skeleton.name}, {persons} person(s): {fault}" for fault in faults]
    return out
