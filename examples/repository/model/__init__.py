"""The model: plain functions, which know nothing of experiments."""
