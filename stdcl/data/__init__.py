"""From raw files to batches: parsing, the Arrow store, splits, streams, augmentation, order of sampling."""
