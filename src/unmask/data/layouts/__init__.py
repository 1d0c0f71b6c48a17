"""One reader for each layout of a data set: its labels, sources, donors and splits.

They read lists and names, never a video. data.datasets recognises the layout and asks one.
"""
