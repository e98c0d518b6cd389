"""From answers per sequence to what may be claimed: pure functions on arrays, no files, no plots.

Read in this order: ``answers`` (input), ``crossed`` (variance over seeds and clusters), ``difference`` (two arms, and
any contrast), ``significance`` and ``verdict`` (what may be said), ``questions`` (families), ``sequential`` (looks),
``power`` and ``components`` (planning), ``proportion`` (one arm), ``repeats`` (accuracies over seeds, where answers per
sequence are not known), ``difficulty`` (hard and easy classes).
"""
