"""What people start: one module, one job, one `main`."""
