"""Headrace: train causal language models on datasets too large to download, same tokens, same order."""

__version__ = "0.1.0"
