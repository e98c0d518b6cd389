"""From rows to tables and figures. Runs on a laptop: no torch, no Ray.

Reading order, which is also the direction of imports: load (trials and their states), published (the paper's numbers),
table (cells as data), notes and wording (strings), formats and figures (files), files (all of them at once).
"""
