"""GAP (Xiang et al., "Generative Action Description Prompts for Skeleton-based Action Recognition", ICCV 2023).

Features of the whole body and of four parts are matched with features of texts about their classes. The text tower is
frozen here: its features come from a file, or are random (a control that separates language from five heads with class
targets). Read in this order: ``options``, ``parts``, ``head``, ``loss``, ``texts``, ``method``.
"""
