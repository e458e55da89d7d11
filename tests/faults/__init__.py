"""Kill the job in every way while it runs: in the end, the output must be that of an undisturbed run.

``python -m tests.faults`` kills workers, executors, drivers and machines: `modes` says
what is run, `faults` what can be killed, `plan` what is, `reader` who looks on meanwhile, `harness` how it is
judged.
"""
