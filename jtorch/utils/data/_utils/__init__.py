"""How a DataLoader works inside: collating, fetching, worker processes.

Workers are fresh processes (spawn), because forking a process in which JAX runs threads can deadlock. A worker starts
with `bootstrap.py`, which makes `import jtorch` free of cost until something of it is used, so a dataset of NumPy
arrays or files never loads JAX there. What a worker collates is NumPy; unpickling it in the parent makes the tensors.
"""
