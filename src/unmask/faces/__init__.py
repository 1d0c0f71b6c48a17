"""Videos to face crops: MTCNN, tracks, one video, a chunk of videos, a user's files.

It knows no labels and no model but MTCNN: a new label or split crops nothing again.
"""
