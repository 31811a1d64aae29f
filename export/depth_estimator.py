"""The depth estimator of depth-to-image models: DPT-hybrid (Ranftl et al. 2021, https://arxiv.org/abs/2103.13413).

A BiT ResNet (Kolesnikov et al. 2020) whose last feature map is the image of a ViT, then a convolutional neck and head. It takes one
size only, that of its position embeddings; `image_processor` holds what turns a picture into that size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import DPTForDepthEstimation
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d

from sd2rt.engine.errors import ExportError
from sd2rt.export.components import Component, TensorInfo

# transformers' defaults for keys that a preprocessor_config.json may leave out; resample 3 is Pillow's BICUBIC.
PROCESSOR_DEFAULTS: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "ensure_multiple_of": 1,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "keep_aspect_ratio": False,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": 384, "width": 384},
}
# Part of DPT's module tree but read by nobody, so checkpoints may lack it: the first fusion layer has no second input.
UNREAD = ("neck.fusion_stage.layers.0.residual_layer1.", "dpt.layernorm.", "dpt.pooler.")


def depth_estimator(model: Any) -> Component:
    """pixel_values [batch, 3, S, S], as the image processor makes them -> predicted_depth [batch, S, S], larger is nearer.

    S is the config's image_size, 384 for SD2. The ResNet's kernels are written standardized, which torch does at every call.
    """
    config = model.config
    height, width = image_size(config.to_dict())
    _standardize_kernels(model)
    return Component(
        name="depth_estimator",
        module=_DepthEstimator(model).eval(),
        config={**config.to_diff_dict(), "architectures": [DPTForDepthEstimation.__name__]},
        inputs=(TensorInfo(name="pixel_values", shape=("batch", config.num_channels, height, width)),),
        outputs=(TensorInfo(name="predicted_depth", shape=("batch", height, width)),),
        prefixes=(("model.", ""),),
    )


def image_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (height, width) of the pictures that a DPT config takes."""
    size = config.get("image_size", 384)
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def image_processor(processor: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a complete preprocessor_config.json: `processor` with transformers' defaults, and its size as height and width.

    `config` is the depth estimator's. Raises ExportError where the processor's pictures are not of the one size that it takes.
    """
    known = PROCESSOR_DEFAULTS | {key: value for key, value in processor.items() if key in PROCESSOR_DEFAULTS}
    size = known["size"]
    got = (size["height"], size["width"]) if isinstance(size, Mapping) else (size, size)
    if got != image_size(config) or known["keep_aspect_ratio"] or not known["do_resize"]:
        height, width = image_size(config)
        raise ExportError(
            f"feature_extractor: resizes to {got[0]} x {got[1]} (do_resize {known['do_resize']}, keep_aspect_ratio "
            f"{known['keep_aspect_ratio']}), but the depth estimator takes {height} x {width} only; correct preprocessor_config.json"
        )
    return {"image_processor_type": "DPTImageProcessor", **known, "size": {"height": got[0], "width": got[1]}}


def _standardize_kernels(model: nn.Module) -> None:
    """Give the ResNet's kernels mean 0 and variance 1 per output channel (Qiao et al. 2019), once and in float32, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, WeightStandardizedConv2d):
                setattr(module, name, _Standardized(child))


class _Standardized(nn.Module):
    """A WeightStandardizedConv2d with its kernel standardized beforehand."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        kernel = conv.weight.detach().flatten(1)  # [O, I * h * w]
        variance, mean = torch.var_mean(kernel, dim=1, keepdim=True, unbiased=False)
        standardized = ((kernel - mean) * torch.rsqrt(variance + conv.eps)).reshape(conv.weight.shape)
        self.weight = nn.Parameter(standardized, requires_grad=False)
        self.bias, self.pad = conv.bias, conv.pad
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Convolve feature maps [B, I, h, w]."""
        if self.pad is not None:
            hidden = self.pad(hidden)
        return nn.functional.conv2d(hidden, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _DepthEstimator(nn.Module):
    """DPTForDepthEstimation with its position embeddings added as they are, not resized to their own size."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.tapped = model.config.backbone_out_indices[2:]  # the first two taps are feature maps of the ResNet

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return inverse depth [B, S, S] of normalized pictures [B, 3, S, S]."""
        embeddings = self.model.dpt.embeddings
        maps = embeddings.backbone(pixel_values).feature_maps
        patches = embeddings.projection(maps[-1]).flatten(2).transpose(1, 2)  # [B, h * w, C]
        class_token = embeddings.cls_token.expand(pixel_values.shape[0], -1, -1)
        hidden = torch.cat((class_token, patches), dim=1) + embeddings.position_embeddings
        features = [maps[index] for index in embeddings.residual_feature_map_index]
        for index, layer in enumerate(self.model.dpt.encoder.layer):
            hidden = layer(hidden)
            if index in self.tapped:
                features.append(hidden)
        depth: torch.Tensor = self.model.head(self.model.neck(features))
        return depth
