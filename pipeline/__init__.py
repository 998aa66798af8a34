"""Skipline: one training, 2^N depths, one registered model."""
