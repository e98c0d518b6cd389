"""Verbs on one run folder: train, evaluate, import a published checkpoint."""
