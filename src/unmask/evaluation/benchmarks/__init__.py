"""Benchmarks: detectors' scores on labelled videos that nobody trained on, and their comparison.

What reads, imports and compares scores knows no net and no video: it imports no torch, so that any
detector's output can be compared where only its file is at hand.
"""
