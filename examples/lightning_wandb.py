"""Lightning and Weights & Biases: one callback; alerts and charts arrive in the W&B run.

python examples/lightning_wandb.py

W&B works offline here: no account, no network. `wandb sync` would send the run later.
"""

import os
from pathlib import Path

import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shiftwatch.integrations.lightning import ShiftWatch

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
BREAK = 150


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        hidden = nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        self.net = nn.Sequential(*hidden, nn.Linear(64, 2))

    def training_step(self, batch, index):
        x, y = batch
        scale = 30 if self.global_step >= BREAK else 1  # the fault: data no longer normalised
        loss = nn.functional.cross_entropy(self.net(x * scale), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


torch.set_num_threads(1)
pl.seed_everything(0, verbose=False)
FOLDER.mkdir(parents=True, exist_ok=True)
x = torch.randn(3200, 20)
data = DataLoader(TensorDataset(x, (x[:, :2].sum(1) > 0).long()), batch_size=32, shuffle=True)

watcher = ShiftWatch(run=FOLDER / "lightning_wandb")
logger = WandbLogger(project="shiftwatch-example", offline=True, save_dir=FOLDER)
trainer = pl.Trainer(
    max_epochs=2, logger=logger, callbacks=[watcher], accelerator="cpu",
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
)  # fmt: skip
trainer.fit(Classifier(), data)

first = watcher.alerts[0]
print(f"The input grew thirtyfold at step {BREAK}.")
print(f"Found: {first.kind} from {first.origin} at step {first.step}.")
charts = sorted(key for key in wandb.run.summary.keys() if key.startswith("shiftwatch/worst"))
print(f"Charts in W&B: {', '.join(charts)}")
print(f"Its files, kept offline: {Path(wandb.run.dir).parent}")
wandb.finish()
