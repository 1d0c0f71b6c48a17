"""What a model is worth: metrics of labelled videos, plots, robustness, the release gate.

It knows labels. It neither trains nor answers for a file of unknown label.
"""
