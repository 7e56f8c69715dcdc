"""`torch.signal`: window functions."""

from jtorch.signal import windows as windows
