from ._convert import OtherHead as OtherHead
from ._convert import adopt_head as adopt_head
from ._ict_facekit import ICT_LIGHT as ICT_LIGHT
from ._ict_facekit import IctLayout as IctLayout
from ._ict_facekit import load_gnm_head as load_gnm_head
from ._ict_facekit import load_ict_head as load_ict_head
