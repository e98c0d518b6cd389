"""From rows to tables and figures. Runs on a laptop: no torch, no Ray.

Reading order, which is also the direction of imports: load (trials and their states), published (the paper's numbers),
answers and judgement (questions and verdicts), table (cells as data), notes and wording (strings), formats and figures
(files), files (all of them at once). Beside this: lines and paper (the paper's tables from several sweeps), provenance
and why, lint, planning, bundle, page and svg (one HTML page), serve.
"""
