"""A net in a form that needs no torch: ONNX, with all that an answer is made of as its outputs.

- logit: fake - real
- features_F: what the last linear layer is given, the mean over a clip's frames
- decision_F: the direction of that layer that speaks for a fake
- heat_THW: Grad-CAM on the net's last stage, where its head is one whose gradient can be written
  down: global pooling before a linear layer, and X3D's

A net without such a layer or head has no such outputs.
"""

import io
import logging
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from unmask.engine import on_cpu
from unmask.errors import NoMapError, WeightsError
from unmask.geometry import Geometry
from unmask.models import backbones
from unmask.models.frame_net import UnitLinear
from unmask.models.grad_cam import signed_heat

LOGIT, FEATURES, DECISION, HEAT = "logit", "features_F", "decision_F", "heat_THW"
_OPSET = 18  # of ONNX 1.13. Of 17 and before, OpenVINO 2026.4 misreads ReduceLogSumExp's axes
_MOST_BYTES = 2**31 - 2**24  # a file of protobuf ends at 2 GB
_TRACED_FRAMES = 4
_CLOSE = 1e-3  # of the largest heat, or of a logit: two ways to sum in 32 bit lie no further apart

logger = logging.getLogger(__name__)


class Portable(nn.Module):
    """A net of clips_BCTHW, in eval mode, with the outputs that are named in `outputs`.

    Each has the direction of the batch first. It shares the net's weights.
    """

    def __init__(self, net: nn.Module, geometry: Geometry) -> None:
        super().__init__()
        self.net = net.eval()
        # Not as attributes, which would be parts of this module once more.
        self._heard: dict[str, nn.Module] = {}
        if (last := last_layer(net)) is not None:
            self._heard[FEATURES] = last
            if (stage := self._closed_stage(geometry)) is not None:
                self._heard[HEAT] = stage
        self.outputs = tuple(self._named(torch.zeros(_shape(1, geometry), device=_device(net))))
        self.eval()

    def forward(self, clips_BCTHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs, in the order of their names."""
        made = self._named(clips_BCTHW)
        if HEAT in made:
            made[HEAT] = made[HEAT].relu()
        return tuple(made.values())

    @torch.no_grad()
    def _named(self, clips_BCTHW: torch.Tensor) -> dict[str, torch.Tensor]:
        given: list[torch.Tensor] = []
        maps: list[torch.Tensor] = []
        last, stage = (self._heard.get(name) for name in (FEATURES, HEAT))
        hooks = []
        if last is not None:
            hooks.append(last.register_forward_pre_hook(lambda _, args: given.append(args[0])))
        if stage is not None:
            hooks.append(stage.register_forward_hook(lambda _, __, made: maps.append(made)))
        try:
            logits_B2 = self.net(clips_BCTHW)
        finally:
            for hook in hooks:
                hook.remove()
        made = {LOGIT: logits_B2[:, 1] - logits_B2[:, 0]}
        if not isinstance(last, nn.Linear) or not given:
            return made
        batch = clips_BCTHW.shape[0]
        # One row a clip, or one a place or a frame of each clip, clip after clip.
        rows_BNF = torch.cat(given).reshape(batch, -1, last.in_features)
        made[FEATURES] = rows_BNF.mean(1)
        made[DECISION] = decision_of(last).expand(batch, -1)
        if stage is not None:
            features_BKTHW = backbones.map_of(self.net, torch.cat(maps), batch)
            made[HEAT] = _heat(self.net, last, features_BKTHW, rows_BNF)
        return made

    def _closed_stage(self, geometry: Geometry) -> nn.Module | None:
        """Return the last stage, if its heat by the formulas here is that by torch's gradients."""
        generator = torch.Generator().manual_seed(1)
        clip = torch.randn(_shape(1, geometry), generator=generator).to(_device(self.net))
        maps: list[Any] = []
        try:
            stage = backbones.last_stage(self.net)
        except (NoMapError, AttributeError):  # the latter of a net that is not of the table
            return None
        hook = stage.register_forward_hook(lambda _, __, made: maps.append(made))
        try:
            with torch.no_grad():
                self.net(clip)
        finally:
            hook.remove()
        if len(maps) != 1 or not isinstance(maps[0], torch.Tensor) or maps[0].dim() < 4:
            return None  # tokens: what follows is attention, not pooling
        expected = signed_heat(self.net, stage, clip)
        self._heard[HEAT] = stage
        try:
            found = self._named(clip).get(HEAT)
        except (RuntimeError, AttributeError):  # its head is of another kind
            return None
        finally:
            del self._heard[HEAT]
        if found is None or found.shape != expected.shape:
            return None
        error = (found - expected).abs().max()
        return stage if bool(error <= _CLOSE * expected.abs().max()) else None


def _heat(
    net: nn.Module, last: nn.Linear, features_BKTHW: torch.Tensor, rows_BNF: torch.Tensor
) -> torch.Tensor:
    """Return heat_BTHW as signed_heat has it, by the gradient of the head that is written down."""
    places = features_BKTHW.shape[2] * features_BKTHW.shape[3] * features_BKTHW.shape[4]
    decision_F = decision_of(last)
    if isinstance(net, backbones.PictureNet):
        if isinstance(last, UnitLinear):  # the gradient of d . x / |x|
            lengths_BN1 = torch.linalg.vector_norm(rows_BNF, dim=2, keepdim=True).clamp_min(1e-12)
            unit_BNF = rows_BNF / lengths_BN1
            along_BN1 = (unit_BNF * decision_F).sum(2, keepdim=True)
            gradient_BK = ((decision_F - unit_BNF * along_BN1) / lengths_BN1).mean(1)
        else:
            gradient_BK = decision_F.expand(features_BKTHW.shape[0], -1)
    else:
        gradient_BK = _behind_x3d_head(net, decision_F, features_BKTHW, rows_BNF.mean(1))
    weights_BK111 = (gradient_BK / places)[:, :, None, None, None]
    heat_BTHW: torch.Tensor = (weights_BK111 * features_BKTHW).sum(1)
    return heat_BTHW


def _behind_x3d_head(
    net: nn.Module,
    decision_F: torch.Tensor,
    features_BKTHW: torch.Tensor,
    rows_BF: torch.Tensor,
) -> torch.Tensor:
    """Return the logit's gradient, summed over places, in what X3D's head is given.

    The head convolves by one pixel, normalises, cuts at zero, pools, multiplies by a matrix, cuts
    at zero and multiplies by the decision.
    """
    pool = backbones.blocks(net)[-1].pool
    norm, (before_CK, after_FC) = (
        pool.pre_norm, (conv.weight.flatten(1) for conv in (pool.pre_conv, pool.post_conv)),
    )  # fmt: skip
    passed_BCTHW = (norm(pool.pre_conv(features_BKTHW)) > 0).float()
    scale_C = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    pooled_BC = (decision_F * (rows_BF > 0).float()) @ after_FC
    gradient_BK: torch.Tensor = (pooled_BC * scale_C * passed_BCTHW.mean((2, 3, 4))) @ before_CK
    return gradient_BK


def last_layer(net: nn.Module) -> nn.Linear | None:
    """Return the linear layer that gives the logits; None where there is no such layer."""
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear and linear[-1].out_features in (1, 2) else None


def decision_of(layer: nn.Linear) -> torch.Tensor:
    """Return decision_F of a layer of one or two outputs, the last of which speaks for a fake."""
    weight = layer.weight.detach()
    return weight[-1] - weight[0] if len(weight) == 2 else weight[0]


def export(net: nn.Module, geometry: Geometry) -> bytes | None:
    """Return the net in the ONNX format; None, and a line in the log, where it has no such form.

    That is also so where what runs it on this machine's CPU can't read it, or gives other logits.

    The numbers of clips and of their frames are left open; their side is geometry's. The same net
    gives the same bytes.
    """
    training = net.training
    try:
        portable = Portable(net, geometry)
        if sum(value.nbytes for value in net.state_dict().values()) > _MOST_BYTES:
            raise ValueError("its weights take more than 2 GB")
        content = _to_onnx(portable, geometry)
        _check(content, net, geometry)
        return content
    except (
        RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError, WeightsError,
    ) as error:  # fmt: skip
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        logger.warning("This net has no form that runs without torch: %.300s", reason)
        return None
    finally:
        net.train(training)


def _to_onnx(portable: Portable, geometry: Geometry) -> bytes:
    # Two clips: a batch of one would be taken for a size that never changes.
    clips_BCTHW = torch.zeros(_shape(2, geometry), device=_device(portable))
    open_sizes = {name: {0: "clips"} for name in portable.outputs}
    open_sizes["clips_BCTHW"] = {0: "clips", 2: "frames"}
    if HEAT in open_sizes:
        open_sizes[HEAT][1] = "times"
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), _CountedFromTheFront():
        # The exporter that follows the net's run. Its successor needs a package that is not
        # installed, and fixes the sizes that these nets leave open.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # A padding's sizes are then worked out at each run, to the same numbers.
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
        torch.onnx.export(
            portable, (clips_BCTHW,), written,  # type: ignore[arg-type]  # a file will do, too
            dynamo=False, opset_version=_OPSET,
            input_names=["clips_BCTHW"], output_names=list(portable.outputs),
            dynamic_axes=open_sizes,
        )  # fmt: skip
    return written.getvalue()


class _CountedFromTheFront(TorchFunctionMode):
    """Has repeat_interleave repeat along a direction that is counted from the front.

    torch 2.15's exporter takes one that is counted from the back for another, and changes all else
    in the net that has the same number: views by -1 among them. Rotary positions are made so.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        given = dict(kwargs or {})
        if func is torch.Tensor.repeat_interleave:
            values, *rest = args
            if len(rest) == 2:
                given["dim"] = rest.pop()
            if given.get("dim") is not None:
                given["dim"] %= values.dim()
            args = (values, *rest)
        return func(*args, **given)


def _check(content: bytes, net: nn.Module, geometry: Geometry) -> None:
    """Pass if what runs portable nets here gives a clip of noise the logit that torch gives it.

    Exporters and readers have faults that only some nets show.

    Raises:
        ValueError: it gives another one.
        WeightsError: it can't read or run the net.
    """
    if on_cpu.library() is None:
        return
    clip_CTHW = np.random.default_rng(1).normal(0, 1, _shape(1, geometry)[1:]).astype(np.float32)
    (made,) = on_cpu.portable_net(content, clip_CTHW.shape, threads=1).run([clip_CTHW])
    device = _device(net)
    close = _CLOSE if device.type == "cpu" else 10 * _CLOSE  # GPUs convolve in fewer bits
    with torch.no_grad():
        clip_1CTHW = torch.from_numpy(clip_CTHW)[None].to(device)
        expected = float(backbones.clip_logits(net, clip_1CTHW))
    found = float(made[LOGIT])
    if not math.isclose(found, expected, rel_tol=close, abs_tol=close):
        raise ValueError(f"its logit of a clip of noise is {found:g}, and by torch {expected:g}")


def _shape(clips: int, geometry: Geometry) -> tuple[int, int, int, int, int]:
    # A few frames show what a net does with any number.
    return clips, 3, min(geometry.frames, _TRACED_FRAMES), geometry.side_px, geometry.side_px


def _device(net: nn.Module) -> torch.device:
    for value in (*net.parameters(), *net.buffers()):
        return value.device
    return torch.device("cpu")
