"""A chunk and its videos: archives, data-set layouts, splits, fingerprints, leaks.

It knows labels, sources and files. It decodes pictures only to
fingerprint them, and knows no faces.
"""
