"""Counts of tokens, words and phrases in texts, and vocabularies mined from the counts."""
