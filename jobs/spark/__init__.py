"""SparkSessions, their Java, their inputs and their errors."""
