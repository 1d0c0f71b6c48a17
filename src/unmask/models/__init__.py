"""Crops to a model and back: clips, backbones, training, checkpoint, card, prediction.

It knows crops and labels. It never opens a user's video, and says nothing about what to do.
"""
