"""From a Sentence Transformer to an embedding table; the only wing that imports torch."""
