"""One small module for each published detector: what it is, and whose names its files use."""
