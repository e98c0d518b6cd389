"""SkeletonGCL (Huang et al., "Graph Contrastive Learning for Skeleton-Based Action Recognition", ICLR 2023).

The graph that the last block refines from a sequence is projected to a vector, and the vectors of all training items
are contrasted through a bank, with the sampling and loss that STD-CL took over. Read in this order: ``options``,
``head``, ``method``.
"""
