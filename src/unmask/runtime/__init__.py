"""Work that survives: whole files, locks, full disks, worker processes, what a killed run left.

It knows nothing of videos, models or commands.
"""
