"""Graph nodes holding vjp kernels, the engine that runs them, grad modes. Knows values, not tensors."""
