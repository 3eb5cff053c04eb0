from ._augmentation import augment as augment
from ._augmentation import make_population as make_population
from ._augmentation import training_population as training_population
from ._config import PolarConfig as PolarConfig
from ._reference import make_reference as make_reference
from ._representation import decode as decode
from ._representation import encode as encode
