"""What an evaluation measures beside accuracy: one file per metric, with its record in ``SPECS``."""
