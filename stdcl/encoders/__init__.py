"""Encoders: from a batch of sequences to logits, and to the feature map that contrastive learning works on."""
