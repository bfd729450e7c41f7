"""Data: sources, the canonical store, augmentation, and blocks."""
