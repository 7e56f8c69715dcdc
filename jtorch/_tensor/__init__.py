"""Tensor: storage, views, indexing, printing, and the functions derived from declared operations."""
