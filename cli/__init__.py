"""The command line: one module per group of verbs over `sd2rt.export`, `sd2rt.engine` and `sd2rt.runtime`.

Importing a verb's module imports click only; libraries come in when the verb runs, so that `sd2rt --help` costs nothing.
"""
