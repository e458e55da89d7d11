"""What ``lakevec benchmark`` measures and against whom.

In reading order: `timing` (how a rate is taken), `corpus` and `bench` (on which rows), `kernel` (ways from
texts to vectors in one process), `spark` (ways from Parquet to Parquet), `kernel_parts`, `spark_parts` and
`distill_part` (what is measured with them), `report`.
"""
