"""sd2rt against its peers on the same weights, noise, steps and threads: `python -m benchmarks peers --help`, docs/benchmarks.md.

`venvs` installs the peers, `models` makes each one's form of the weights, `contenders` says who takes part, `scenarios` measures,
`report` and `plots` show. All of it but the workers stays small, see `measure.run_measured`.
"""
