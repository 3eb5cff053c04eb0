"""The evaluation protocol: benchmark of aligning a head with a scan and measuring distances."""
