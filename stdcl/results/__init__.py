"""What happened, as rows: the store of trials, per-sequence scores and their fusion. No torch here."""
