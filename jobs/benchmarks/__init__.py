"""The parts of ``lakevec benchmark``.

Reading order: `timing` (how rates are measured), `corpus` (the rows), `peers` (the libraries compared with),
`kernel_parts` (parts in one process), `spark_tasks` and `spark_parts` (parts on Spark), `report`.
"""
