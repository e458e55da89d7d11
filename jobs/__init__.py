"""The commands of lakevec: one module for each."""
