"""The Hugging Face Hub: what a repository of it is called, lists, gives and takes.

Knows nothing of models: which files make one is for whoever asks.
"""
