"""The sources of data that a study may name in its field `data.source`; a new one is a file and a line here."""

from ntkhpc.data.calorimeter import Calorimeter
from ntkhpc.data.cifar10 import Cifar10
from ntkhpc.data.mnist import Mnist
from ntkhpc.data.user_showers import ShowerFile
from ntkhpc.data.user_table import TableFile

AnySource = Calorimeter | ShowerFile | TableFile | Mnist | Cifar10
