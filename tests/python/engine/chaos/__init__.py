"""Proof of exactly-once: loaders are killed by the hundred, and what landed is compared with the truth."""
