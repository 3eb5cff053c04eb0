"""The deformation representation: benchmark of encoding, decoding and augmenting heads."""
