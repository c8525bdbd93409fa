"""Measurements beside a plain copy, beside bare primitives, and beside other programs.

    python -m benchmarks            all tables, plots into docs/images/
    python -m benchmarks --tiny     a rehearsal in seconds; what tests/test_benchmarks.py runs

docs/benchmarks.md says how to read them. Each measure is a module with a function
that takes a :class:`~benchmarks.plan.Plan` and returns a :class:`~benchmarks.results.Table`.
"""
