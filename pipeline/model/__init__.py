"""The embedding table: the value, its published folder, its card."""
