"""A file's answer, and what is handed on with it: verdict, evidence, report, annotated copy.

It applies a model and its limits. It knows nothing of training, of metrics or of who asks.
"""
