"""Shards of the faces stage dealt to the nodes of a cluster.

It starts, watches and retries jobs. What a shard is, and how it is cropped, is `faces`' business.
"""
