"""The old place of what lies in :mod:`digitaltwin.evaluation` now, for the verbs that have not moved yet."""

from digitaltwin.evaluation._scored_pairs import score_file as score_file
from digitaltwin.evaluation._scored_pairs import score_pair as score
from digitaltwin.evaluation._scored_pairs import score_pairs as score_all
from digitaltwin.evaluation._scored_pairs import write_csv as write_csv
from digitaltwin.evaluation._scored_pairs import write_surface as write_surface
from digitaltwin.evaluation._sheet import draw_heat_map as draw_heat_map
from digitaltwin.evaluation._sheet import png as png

__all__ = ["draw_heat_map", "png", "score", "score_all", "score_file", "write_csv", "write_surface"]
