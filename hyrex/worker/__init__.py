"""The worker: a launcher, a stream process, and children that run user code.

Only `launcher` and `options` may be imported from outside this package.
"""
