"""Workflows: tasks that wait for one another, wired in the body of a function and sent as one.

`linkable` has the operators, `node` and `building` what a body makes, `graph` what is sent of it, `workflow`
the decorated function, `sending` and `handle` what becomes of it.
"""
