"""Registration of scans: benchmark of its stages and of its non-rigid step."""
