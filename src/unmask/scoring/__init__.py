"""Logits and labels to numbers: probabilities, metrics, verdicts. Plain numpy.

It reads no file and imports no torch.
"""
