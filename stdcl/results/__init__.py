"""What a run and a sweep leave behind: folders, files, states and rows; every other package reads and writes them here.

Reading order, which is also the direction of imports: layout (paths), state (words), row, history, result, plan,
progress and ask (one file each), store (attempts as rows), status (the state of each trial, from all of these); scores
and fusion, of single sequences. No torch, no Ray.
"""
