"""From Arrow strings to vectors."""
