"""The quality of models: scores on public tasks, and fidelity to a teacher on a user's own rows."""
