"""Everything that crosses ranks: the only package that talks to ``torch.distributed``."""
