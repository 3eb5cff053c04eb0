from ._config import ProtocolConfig as ProtocolConfig
from ._dense_correspondence import dense_correspondence_errors as dense_correspondence_errors
from ._metrics import armse as armse
from ._metrics import compare_surfaces as compare_surfaces
from ._metrics import compare_trees as compare_trees
from ._protocol import evaluate_pair as evaluate_pair
from ._protocol import find_pairs as find_pairs
from ._protocol import group_errors as group_errors
