"""What tuning needs from Spark: a sample of the lake, and the teacher's vectors of it."""
