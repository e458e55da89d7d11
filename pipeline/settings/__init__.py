"""The settings of each command: the only place for a key, its type, default, range and help.

The command line (`lakevec.jobs.options`), ``conf/*.yaml`` and ``docs/configuration.md`` follow them.
"""
