"""Parts of training pictures: crops where there is something to see, and masks for inpainting."""

import torch
from torch import Tensor

EDGE = 40  # levels by which neighbours in a picture differ at an edge, all channels together
AT_EDGES = 0.8  # part of the upscaler's crops that are taken where there is one


def find_edges(images: Tensor) -> Tensor:
    """Return where pictures [N, 3, S, S] uint8 change between every fourth pixel: bool [N, S / 4 - 1, S / 4 - 1]."""
    coarse = images[:, :, ::4, ::4].short()
    down, right = coarse.diff(dim=2)[..., :-1], coarse.diff(dim=3)[:, :, :-1]
    return torch.maximum(down.abs().sum(1), right.abs().sum(1)) > EDGE


def crops_at(pixels: Tensor, edges: Tensor, crop: int) -> Tensor:
    """A window [B, 3, crop, crop] at multiples of 4 of each picture, mostly where it shows an edge, half of them mirrored."""
    batch, _, size, _ = pixels.shape
    chances = edges.flatten(1).float()
    chances = AT_EDGES * chances / chances.sum(1, keepdim=True).clamp(min=1) + (1 - AT_EDGES) / chances.shape[1]
    place = torch.multinomial(chances, 1)[:, 0]
    centre = torch.stack([place // edges.shape[2], place % edges.shape[2]]) * 4
    corner = (centre - torch.randint(0, crop - 8, centre.shape, device=pixels.device)).clamp(0, size - crop) // 4 * 4
    rows, columns = corner[:, :, None] + torch.arange(crop, device=pixels.device)
    row_index = rows[:, None, :, None].expand(-1, 3, -1, size)
    column_index = columns[:, None, None, :].expand(-1, 3, crop, -1)
    windows = pixels.gather(2, row_index).gather(3, column_index)
    mirrored = torch.rand(batch, 1, 1, 1, device=pixels.device) < 0.5
    return torch.where(mirrored, windows.flip(-1), windows)


def masks_of(boxes: Tensor, size: int) -> Tensor:
    """Masks [B, 1, S, S] of 0 and 1: mostly a solid's box with a margin, else any rectangle, sometimes everything."""
    batch, device = len(boxes), boxes.device
    solid = torch.randint(0, 2, (batch,), device=device)
    box = boxes[torch.arange(batch, device=device), solid].float()
    margin = torch.rand(batch, 4, device=device) * 8
    grown = torch.cat([box[:, :2] - margin[:, :2], box[:, 2:] + margin[:, 2:]], 1)
    corners = torch.rand(batch, 2, 2, device=device).sort(dim=1).values.flatten(1) * size
    kind = torch.rand(batch, 1, device=device)
    whole = torch.cat([torch.zeros(2, device=device), torch.full((2,), float(size), device=device)])  # no copy from the host: captured
    chosen = torch.where(kind < 0.65, grown, torch.where(kind < 0.92, corners, whole))
    at = torch.arange(size, device=device) + 0.5
    inside_x = (at > chosen[:, 0, None]) & (at < chosen[:, 2, None])
    inside_y = (at > chosen[:, 1, None]) & (at < chosen[:, 3, None])
    return (inside_y[:, None, :, None] & inside_x[:, None, None, :]).float()
