"""The commands: options and words around calls into the other wings.

Nothing may import it but the stages, which share its progress bars and trackers.
"""
