"""Kills of every kind while the job runs: what is written must come out as if nothing had happened.

``python -m tests.faults`` kills workers, executors, drivers and machines: `modes` says
what is run, `faults` what can be killed, `plan` what is, `reader` who looks on meanwhile, `harness` how it is
judged.
"""
