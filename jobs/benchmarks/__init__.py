"""What ``lakevec benchmark`` measures and against whom."""
