"""Nets that answer: OpenVINO or ONNX Runtime on CPUs, torch on GPUs, one interface.

It knows neither faces nor models: it is handed a net and what the net is to look at.
"""
