"""Workflows as pictures.

`folding` decides what is one box, `layers` and `places` where it stands, `drawing` makes the SVG, and
`waterfall` shows when each node waited and ran. None of it knows requests, pages or brokers.
"""
