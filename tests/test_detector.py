"""MTCNN on real faces: searching a picture, following from frame to frame."""
