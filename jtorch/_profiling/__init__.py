"""What profiles are made of: the recorder, which the executor tells of each run, and XLA's own account of its programs."""
