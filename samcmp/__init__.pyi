from samcmp.api import compare as compare
from samcmp.api import datasets as datasets
from samcmp.api import inspect as inspect
from samcmp.api import models as models
from samcmp.api import optimizers as optimizers
from samcmp.api import predict as predict
from samcmp.api import profile as profile
from samcmp.api import train as train
from samcmp.errors import SamcmpError as SamcmpError

__version__: str
