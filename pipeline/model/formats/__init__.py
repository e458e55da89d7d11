"""Static models of other libraries: detected by their files, and read without running code of theirs."""
