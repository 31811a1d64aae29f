"""Networks that copy before they are trained: the upscaler's autoencoder and UNet, set by hand so that little training is left to do.

A group norm divides by what it finds in each picture. Two large constant channels in its only group make that division the same for all
pictures, and its weights undo it; silu(x) - silu(-x) = x lets a pair of channels (x, -x) pass the activation that follows. Residual
branches begin at zero, convolutions as the identity. What keeps the constants constant is held: it gets no gradient.

The autoencoder's encoder stays as it is set: latents are the means of 4 x 4 pixels, and as the fourth channel how much brighter the lower
right quarter is than the upper left one. Its decoder begins with the nearest pixel, the UNet with the small picture for latents.
"""

import math
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

CONSTANT = 32.0
DETAIL = 7.0  # gives the fourth channel the spread of the others
LUMA = (0.299, 0.587, 0.114)
LOG_VARIANCE = -14.0  # of the latents' posterior: next to none
IMAGE = [6, 7]  # the constants' channels in the autoencoder, behind (r, -r, g, -g, b, -b)
LATENT = [14, 15]  # and in the UNet, behind four pairs of the noisy latents and three of the small picture
RESERVED = 16  # the UNet's channels up to these copy


def start_autoencoder(vae: AutoencoderKL) -> AutoencoderKL:
    """Set an autoencoder of factor 4 and one norm group, in place; only its decoder is left to train."""
    _start_half(vae.encoder, vae.encoder.down_blocks)
    _start_half(vae.decoder, vae.decoder.up_blocks)
    with torch.no_grad():
        _set_encoder(vae.encoder)
        _set_decoder(vae.decoder)
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.copy_(torch.eye(conv.weight.shape[0])[:, :, None, None])
            conv.bias.zero_()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    vae.post_quant_conv.requires_grad_(False)
    return vae


def start_unet(unet: UNet2DConditionModel, scaling: float) -> UNet2DConditionModel:
    """Set the upscaler's UNet, of one norm group, in place: its v-prediction begins as minus the small picture's latents."""
    down, up = unet.down_blocks[0], unet.up_blocks[-1]
    with torch.no_grad():
        _set_pairs(unet.conv_in, [1.0] * 4 + [scaling] * 3, LATENT)
        _hold(unet.conv_in.weight, rows=LATENT)
        _silence(down.resnets[0], LATENT)
        down.downsamplers[0].conv.weight[:, LATENT] = 0
        _hold(down.downsamplers[0].conv.weight, columns=LATENT)
        for resnet in up.resnets:  # their input is what comes from below, and then the stream that skipped it
            below = resnet.norm1.num_channels - unet.conv_in.out_channels
            constants = [below + channel for channel in LATENT]
            _silence(resnet, constants, rows=[])
            resnet.conv_shortcut.weight[:, constants] = 0
            _hold(resnet.conv_shortcut.weight, columns=constants)
        last = up.resnets[-1]
        width = last.conv_shortcut.out_channels
        last.conv_shortcut.weight.zero_()
        last.conv_shortcut.bias.zero_()
        for channel in range(width):
            last.conv_shortcut.weight[channel, channel + width if channel < RESERVED else channel] = 1
        for parameter in (last.conv_shortcut.weight, last.conv2.weight, last.conv2.bias):
            _hold(parameter, rows=LATENT)
        _undo_norm(unet.conv_norm_out, LATENT)
        _set_difference(unet.conv_out, first=8, sign=-1)
        unet.conv_out.weight[:, RESERVED:] *= 0.1
        unet.class_embedding.weight.copy_(0.3 * _waves(*unet.class_embedding.weight.shape))  # near levels begin alike
    return unet


def encode(pixels: Tensor) -> Tensor:
    """Return what the encoder gives for pixels [B, 3, S, S] in [-1, 1], without running it: [B, 4, S / 4, S / 4]."""
    half = nn.functional.avg_pool2d(pixels, 2)
    luma = (half * torch.tensor(LUMA, device=pixels.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.cat([nn.functional.avg_pool2d(half, 2), DETAIL * (luma[:, :, 1::2, 1::2] - luma[:, :, ::2, ::2])], 1)


def _start_half(half: Any, blocks: Any) -> None:
    """Make an encoder or a decoder copy its first channels through all its blocks."""
    with torch.no_grad():
        attention = half.mid_block.attentions[0]
        _undo_norm(attention.group_norm, IMAGE)
        attention.to_out[0].weight.zero_()
        attention.to_out[0].bias.zero_()
        _hold(attention.to_out[0].weight, rows=IMAGE)
        for resnet in [*half.mid_block.resnets, *(resnet for block in blocks for resnet in block.resnets)]:
            _silence(resnet, IMAGE)
            if resnet.conv_shortcut is not None:
                _set_identity(resnet.conv_shortcut)
        for block in blocks:
            for sampler in getattr(block, "upsamplers", None) or []:
                _set_identity(sampler.conv)
            for sampler in getattr(block, "downsamplers", None) or []:
                _set_identity(sampler.conv, mean=True)
        _undo_norm(half.conv_norm_out, IMAGE)


def _set_encoder(encoder: Any) -> None:
    _set_pairs(encoder.conv_in, [1.0] * 3, IMAGE, others=False)
    detail = encoder.down_blocks[1].downsamplers[0].conv.weight  # [C, C, 3, 3], of which the upper left 2 x 2 pool
    detail[8:] = 0
    for channel, luma in enumerate(LUMA):
        for row, sign in ((8, 1.0), (9, -1.0)):
            detail[row, 2 * channel, 1, 1], detail[row, 2 * channel, 0, 0] = sign * DETAIL * luma, -sign * DETAIL * luma
    encoder.conv_out.weight.zero_()
    encoder.conv_out.bias.fill_(LOG_VARIANCE)
    encoder.conv_out.bias[:4] = 0
    for row, channel in enumerate((0, 2, 4, 8)):
        encoder.conv_out.weight[row, channel, 1, 1], encoder.conv_out.weight[row, channel + 1, 1, 1] = 1, -1


def _set_decoder(decoder: Any) -> None:
    _set_pairs(decoder.conv_in, [1.0] * 3, IMAGE)
    _hold(decoder.conv_in.weight, rows=IMAGE)
    _set_difference(decoder.conv_out, first=0, sign=1)
    decoder.conv_out.weight[:, 8:] *= 0.1


def _set_pairs(conv: nn.Conv2d, gains: list[float], constants: list[int], others: bool = True) -> None:
    """Let a first convolution give (x, -x) of each input channel, then the constants; the other channels stay random, or are zero."""
    conv.weight[: constants[1] + 1 if others else None] = 0
    assert conv.bias is not None
    conv.bias[: constants[1] + 1 if others else None] = 0
    for channel, gain in enumerate(gains):
        conv.weight[2 * channel, channel, 1, 1], conv.weight[2 * channel + 1, channel, 1, 1] = gain, -gain
    conv.bias[constants[0]], conv.bias[constants[1]] = CONSTANT, -CONSTANT


def _set_difference(conv: nn.Conv2d, first: int, sign: float) -> None:
    """Let a last convolution give x from three pairs (x, -x), the first at channel `first`, and read no other channel that copies."""
    conv.weight[:, : first + 8] = 0
    assert conv.bias is not None
    conv.bias.zero_()
    for row in range(3):
        conv.weight[row, first + 2 * row, 1, 1], conv.weight[row, first + 2 * row + 1, 1, 1] = sign, -sign


def _set_identity(conv: nn.Conv2d, mean: bool = False) -> None:
    """Let a convolution copy its channels by the middle tap, or by the mean of 2 x 2 pixels where its stride is 2."""
    conv.weight.zero_()
    assert conv.bias is not None
    conv.bias.zero_()
    middle = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        if mean:
            conv.weight[channel, channel, :2, :2] = 0.25
        else:
            conv.weight[channel, channel, middle, middle] = 1
    _hold(conv.weight, rows=IMAGE, columns=IMAGE)


def _silence(resnet: Any, constants: list[int], rows: list[int] | None = None) -> None:
    """Let a residual block add nothing, and nothing to the constants later: channels `rows` of its output, by default the same."""
    _undo_norm(resnet.norm1, constants)
    resnet.conv2.weight.zero_()
    resnet.conv2.bias.zero_()
    for parameter in (resnet.conv2.weight, resnet.conv2.bias):
        _hold(parameter, rows=constants if rows is None else rows)


def _undo_norm(norm: nn.GroupNorm, constants: list[int]) -> None:
    """Let a norm of one group pass all channels as they are, but for the constants, which it drops."""
    norm.weight.fill_(CONSTANT * math.sqrt(len(constants) / norm.num_channels))
    norm.weight[constants] = 0
    norm.bias.zero_()
    _hold(norm.weight, rows=constants)


def _hold(parameter: Tensor, *, rows: list[int] | None = None, columns: list[int] | None = None) -> None:
    """Keep some output (rows) and input channels (columns) of a parameter from changing."""
    free = torch.ones_like(parameter)
    if rows:
        free[rows] = 0
    if columns:
        free[:, columns] = 0
    parameter.register_hook(lambda gradient: gradient * free.to(gradient.device))  # type: ignore[no-untyped-call]


def _waves(count: int, width: int) -> Tensor:
    """Return sines and cosines [count, width] of 0 to count - 1 at falling frequencies (Vaswani et al. 2017, section 3.5)."""
    frequencies = torch.exp(-math.log(1000) * torch.arange(width // 2) / (width // 2))
    angles = torch.arange(count)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)
