"""A package with an optimizer, and a model of a user's own, that do to their process whatever a test names.

Both take a setting ``deed``, which is done in every step and in every forward pass.
"""

from __future__ import annotations

from pathlib import Path

DEEDS = '''
import ctypes, os, random, signal, sys, time, warnings
import numpy as np
import torch
from torch.nn import functional

def change_everything():
    """All that an arm could leave behind for those that follow in its process."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    torch.optim.Adam.step = lambda self, closure=None: None
    functional.linear = functional.relu = torch.relu = lambda x, *rest: x * 0
    torch.Tensor.backward = lambda self, *rest: None
    import samcmp.training.loop, samcmp.training.tasks
    samcmp.training.loop.predict = samcmp.training.tasks.score = None
    warnings.simplefilter("error")
    os.environ["OMP_NUM_THREADS"] = "2"
    os.chdir("/")
    sys.path.insert(0, "/")

def no_dropout(x, *rest, **more):
    return x

def monkeypatch():
    torch.nn.functional.dropout = no_dropout

DO = {
    "": lambda: None,
    "change everything": change_everything,
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "threads": lambda: torch.set_num_threads(3),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "torch.nn.functional.dropout": monkeypatch,
    "current folder": lambda: os.chdir("/"),
    "OMP_WAIT_POLICY": lambda: os.environ.update(OMP_WAIT_POLICY="active"),
    "sys.exit": lambda: sys.exit(0),
    "SystemExit": lambda: sys.exit("good bye"),
    "os._exit": lambda: os._exit(0),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "error": lambda: [][1],
    "sleep": lambda: time.sleep(600),
    "loop": lambda: [None for _ in iter(int, 1)],
}
'''
MODEL = """
import torch
from torch_geometric.nn import global_mean_pool

class Net(torch.nn.Module):
    def __init__(self, in_channels, tasks, deed=""):
        super().__init__()
        self.deed = deed
        self.head = torch.nn.Linear(in_channels, tasks)

    def forward(self, data):
        out = self.head(global_mean_pool(data.x, data.batch, data.num_graphs))
        DO[self.deed]()
        return out
"""
OPTIMIZER = """
class Hostile:
    def __init__(self, base, *, deed):
        self.base, self.deed = base, deed
        self.param_groups, self.state, self.defaults = base.param_groups, base.state, base.defaults

    def step(self, closure):
        loss = closure()
        DO[self.deed]()
        self.base.step()
        return loss
"""
ENTRY = """
from samcmp.optim import OptimizerEntry

HOSTILE = OptimizerEntry("hostile_optimizer", "Hostile", "does what it is asked for", "", "1", {"deed": ""})
"""


def model(folder: Path) -> str:
    """Write the model to a file and return its name for --model."""
    path = folder / "hostile_net.py"
    path.write_text(DEEDS + MODEL)
    return f"{path}:Net"


def install(folder: Path, *, entry: str = ENTRY) -> None:
    """Install the optimizer ``hostile`` into a folder that is to be on the path."""
    (folder / "hostile_optimizer.py").write_text(DEEDS + OPTIMIZER)
    (folder / "hostile_entry.py").write_text(entry)
    about = folder / "hostile-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[samcmp.optimizers]\nhostile = hostile_entry:HOSTILE\n")
