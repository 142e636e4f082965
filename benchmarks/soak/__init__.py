"""A soak: a small cluster under a mixed load for as long as one likes, with brokers restarted in the middle.

It asks what a benchmark cannot: does anything grow? `scripts/soak --minutes N` samples memory, files,
threads, dead rows, sizes, the write-ahead log and latencies, fits a slope to each, and holds it against a
bound. docs/performance.md has the findings.
"""
