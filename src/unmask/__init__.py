"""Train, version and defend a deepfake video detector."""
