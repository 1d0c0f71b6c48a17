"""The benchmark in which videos stay with their owners, on Substra.

It packs, plans and compares what `models` trains. Only weights and metrics leave an organisation.
"""
