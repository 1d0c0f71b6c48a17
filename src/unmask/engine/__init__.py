"""Nets that answer: OpenVINO on CPUs, torch on GPUs, behind one interface.

It knows neither faces nor models: it is handed a net and what the net is to look at.
"""
