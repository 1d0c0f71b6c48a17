"""The classifier as Lightning trains it, and the article's milestone fine-tuning."""

import logging
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, Callback
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader

from unmask.models.backbones import clip_logits, layers
from unmask.models.clips import EpochSampler
from unmask.models.tuning import SteadyFinetuning, body_parameters, head_parameters, keep_statistics
from unmask.params import Train
from unmask.scoring import scores

logger = logging.getLogger(__name__)


class Classifier(LightningModule):
    """A backbone with one logit a clip: log-odds that it is fake.

    The head has two outputs, real and fake; the logit is their difference, so binary
    cross-entropy on it is cross-entropy on the two. class_weights are the losses' weights of real
    and fake clips.
    """

    def __init__(
        self, net: nn.Module, settings: Train, *, class_weights: tuple[float, float]
    ) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        self.class_weights = class_weights
        self._validation: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
        """Return logits_B."""
        return clip_logits(self.net, clips_BCTHW)

    def on_train_batch_start(self, _: Any, batch_idx: int) -> None:
        """Seed the batch's dropout, so that it does not depend on what was drawn before.

        At the epoch's start would not do: Lightning draws from the same generator for its loaders,
        and in a resumed training at other moments.
        """
        place = [self.settings.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the batch's weighted loss."""
        clips_BCTHW, labels_B = batch
        labels_B = labels_B.float()
        real, fake = self.class_weights
        loss = nn.functional.binary_cross_entropy_with_logits(
            self(clips_BCTHW).float(), labels_B, weight=real + (fake - real) * labels_B
        )
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Keep the batch's logits for the end of the epoch: AUC is not a mean over batches."""
        clips_BCTHW, labels_B = batch
        self._validation.append((self(clips_BCTHW).float(), labels_B.float()))

    def on_validation_epoch_end(self) -> None:
        """Log val_loss (log-loss of clips) and val_auc."""
        pairs = [torch.stack(pair) for pair in self._validation]
        self._validation.clear()
        gathered = self.all_gather(torch.cat(pairs, dim=1))  # (2, N), or (ranks, 2, N) under DDP
        assert isinstance(gathered, torch.Tensor)
        if self.trainer.world_size > 1:
            loader = self.trainer.val_dataloaders
            assert isinstance(loader, DataLoader)
            assert isinstance(loader.sampler, EpochSampler)
            gathered = loader.sampler.join(gathered)
        logits, labels = gathered
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        self.log("val_loss", loss, prog_bar=True, rank_zero_only=True)
        if 0 < labels.mean() < 1 and bool(logits.isfinite().all()):
            auc = scores.roc_auc(labels.cpu().numpy().astype(int), logits.cpu().numpy())
            self.log("val_auc", auc, prog_bar=True, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Return AdamW on what learns from the first epoch on, and MultiStepLR.

        With milestones that is the head; the top layers join later. Else what learns beside the
        head is a second group, at lr_top_ratio of its rate. Norms don't decay: they are scales, to
        which 0 is no rest.
        """
        settings = self.settings
        groups: list[dict[str, Any]] = [{"params": head_parameters(self.net)}]
        if body := body_parameters(self.net, settings.tune):
            groups.append({"params": body, "lr": settings.lr_head * settings.lr_top_ratio})
            if settings.tune == "layernorm":
                groups[-1]["weight_decay"] = 0.0
        optimizer = AdamW(groups, lr=settings.lr_head, weight_decay=settings.weight_decay)
        schedule = MultiStepLR(optimizer, [settings.milestone], gamma=settings.lr_gamma)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def finetuning(settings: Train) -> Callback:
    """Return the callback that lets the weights learn that train.tune names."""
    if settings.tune == "milestones":
        return MilestoneFinetuning(settings)
    return SteadyFinetuning(settings.tune)


class MilestoneFinetuning(BaseFinetuning):
    """Train the head alone, then from the milestone also the top blocks at a lower rate."""

    def __init__(self, settings: Train) -> None:
        super().__init__()
        self.settings = settings

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze all layers but the head's projection."""
        assert isinstance(pl_module, Classifier)
        self.freeze(layers(pl_module.net), train_bn=False)

    def finetune_function(
        self, pl_module: LightningModule, epoch: int, optimizer: Optimizer
    ) -> None:
        """At the milestone add the top blocks as a second param group."""
        assert isinstance(pl_module, Classifier)
        settings = self.settings
        if epoch == settings.milestone and settings.unfreeze_top_layers:
            self.unfreeze_and_add_param_group(
                self._top(pl_module),
                optimizer,
                lr=optimizer.param_groups[0]["lr"] * settings.lr_top_ratio,
                train_bn=False,
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """In a resumed training unfreeze what had joined: BaseFinetuning restores groups alone."""
        super().on_fit_start(trainer, pl_module)
        assert isinstance(pl_module, Classifier)
        if len(trainer.optimizers[0].param_groups) > 1:
            self.make_trainable(self._top(pl_module))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze where it is time, and keep every BatchNorm on its stored statistics.

        BaseFinetuning leaves a frozen one in train mode.
        """
        super().on_train_epoch_start(trainer, pl_module)
        keep_statistics(pl_module)

    def on_after_backward(self, trainer: Trainer, _: LightningModule) -> None:
        """Average over the ranks the gradients of what joined at the milestone.

        DDP does so only for what could learn when it wrapped the net; the ranks would drift apart
        (Lightning's issue 20340, open).
        """
        if trainer.world_size == 1:
            return
        joined = [p for group in trainer.optimizers[0].param_groups[1:] for p in group["params"]]
        gradients = [p.grad for p in joined if p.grad is not None]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            means = trainer.strategy.reduce(flat, reduce_op="mean")
            for gradient, part in zip(
                gradients, means.split([g.numel() for g in gradients]), strict=True
            ):
                gradient.copy_(part.view_as(gradient))

    def _top(self, classifier: Classifier) -> list[nn.Module]:
        top = layers(classifier.net)[-self.settings.unfreeze_top_layers :]
        return [module for layer in top for module in layer]
