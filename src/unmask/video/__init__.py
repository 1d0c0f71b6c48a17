"""Decode by timestamp, convert colours, encode, copy sound. Owns PyAV.

It knows pictures and times. It knows no faces.
"""
