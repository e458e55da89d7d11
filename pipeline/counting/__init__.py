"""How often tokens, words and phrases occur in texts; knows no Spark and no files."""
