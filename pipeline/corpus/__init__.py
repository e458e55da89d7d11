"""Counts of tokens, words and phrases in texts, and the vocabulary mined from them."""
