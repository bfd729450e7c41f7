"""Data: sources, the canonical store, augmentation, and micro-batches."""
