"""Benchmarks: one workload a file; ``python -m benchmarks.<workload> --help``. Committed tables lie in ``results/``."""
