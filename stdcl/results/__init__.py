"""What a run and a sweep leave behind: folders, files, states and rows; every other package reads and writes them here.

Reading order, which is also the direction of imports: layout (paths), history, result and plan (one file each), store
(attempts as rows); scores and fusion, of single sequences. No torch, no Ray.
"""
