"""How good a table is: on public tasks, and beside its teacher on the lake's own rows."""
