"""Which words of a lake its model should know whole."""
