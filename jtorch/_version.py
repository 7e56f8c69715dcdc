"""The versions: of jtorch, and of the torch whose API it gives."""

__version__ = "2.13.0+jtorch.0.1.0"
