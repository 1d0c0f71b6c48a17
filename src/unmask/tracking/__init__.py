"""A run as events, for MLflow, for W&B, or for later; where a run comes from.

It knows no stage. A place that is down never stops the work.
"""
