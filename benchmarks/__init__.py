"""Benchmarks of sd2rt against what else can run the same weights: `python -m benchmarks --help`.

Each writes one JSON file into `benchmarks/results/` with every sample, parameter, version, the machine and the commit;
`python -m benchmarks report` makes the README's tables from those files and from nothing else.
"""
