"""A table fitted to its teacher's vectors of a lake's own texts; torch is needed for training alone."""
