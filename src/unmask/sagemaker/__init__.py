"""The same training as a job on SageMaker: its data, its checks, its request, its result.

It moves files and starts jobs. What is trained, and how, is `models`' business.
"""
