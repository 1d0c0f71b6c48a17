"""Published detectors as models of ours: where they come from, what they are, how they are built.

Whoever loads a model needs `record` and `nets` alone; the rest runs when one is adopted.
"""
