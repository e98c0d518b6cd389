"""FR-Head (Zhou et al., "Learning Discriminative Representations for Skeleton Based Action Recognition", CVPR 2023).

Read in this order: ``options``, ``head`` (features at several depths), ``loss`` (prototypes and ambiguous samples),
``method`` (all of it over ranks).
"""
