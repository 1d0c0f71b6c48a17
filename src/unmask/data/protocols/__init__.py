"""Official protocols: which videos of a data set are its test videos, and whether a copy is whole.

A protocol is a small file in official/: name, version, layout, how the test videos are told from
the data set's own list, how many they are, and that list's digest where it is known for sure.
"""
