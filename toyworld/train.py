"""Train the toyworld networks: `python -m sd2rt.toyworld.train STAGE --work DIR (--steps N | --minutes M)`.

Stages in order, each resumable from its checkpoint in DIR: data, vae, vae-x4, tiny-vae, text-to-image (with the text encoder, which
stands still after the first part of the run), then inpainting, depth-to-image and upscaling on the text encoder that text-to-image
left. Every stage leaves a diffusers component folder, and each task a whole pipeline. Seeds are fixed; the same --steps on the same
machine trains the same network.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from sd2rt.toyworld import losses
from sd2rt.toyworld.dataset import DatasetOptions, write_dataset
from sd2rt.toyworld.fit import Group, Plan, Trainer
from sd2rt.toyworld.networks import SD2_BETAS, UPSCALER_BETAS, make_text_encoder, make_tiny_vae, make_unet, make_vae
from sd2rt.toyworld.pipelines import TOKENIZER, save_pipeline
from sd2rt.toyworld.training_set import Data

TEXT_UNTIL = 0.4  # part of text-to-image's training after which the text encoder stands still


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One stage's settings, as the command line gives them."""

    work: Path
    plan: Plan
    batch: int
    device: torch.device
    notify: Callable[[str], None]

    def trainer(self, name: str, groups: list[Group], loss: Callable[[], torch.Tensor]) -> Trainer:
        """A trainer whose checkpoint is named for the stage."""
        return Trainer(groups, loss, self.plan, self.work / f"{name}.checkpoint")


def train_vae(run: Run, factor: int) -> None:
    """Train the autoencoder and note the scaling factor that gives its latents unit variance."""
    vae = make_vae(factor).to(run.device).to(memory_format=torch.channels_last)
    data = load_data(run.work / ("data.npz" if factor == 8 else "data-256.npz"), run.device)
    if factor == 8:
        part, loss = vae, losses.vae_loss(vae, data, run.batch)
    else:
        part, loss = vae.decoder, losses.decoder_loss(vae, data, run.batch, 96)
    trainer = run.trainer(f"vae-f{factor}", [Group(modules=[part])], loss)
    trainer.run(run.notify)
    trainer.averaged()
    vae.eval()
    with torch.no_grad():
        pixels = data.images[:256].float() / 127.5 - 1
        mean = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(32)])
        error = torch.cat([(vae.decode(m).sample.clamp(-1, 1) - x).square() for m, x in zip(mean.split(32), pixels.split(32), strict=True)])
    vae.register_to_config(scaling_factor=round(1 / mean.std().item(), 5))
    run.notify(f"PSNR {10 * np.log10(4 / error.mean().item()):.2f} dB on 256 pictures; scaling factor {vae.config.scaling_factor}")
    save(vae, vae_folder(run.work, factor))


def train_tiny_vae(run: Run) -> None:
    """Train a tiny decoder to give what the autoencoder's gives; its encoder is left as it is made and is not used."""
    vae = AutoencoderKL.from_pretrained(vae_folder(run.work, 8)).float().to(run.device).eval().requires_grad_(False)
    tiny = make_tiny_vae().to(run.device).to(memory_format=torch.channels_last)
    data = load_data(run.work / "data.npz", run.device).with_latents(vae)
    trainer = run.trainer("tiny-vae", [Group(modules=[tiny.decoder])], losses.tiny_decoder_loss(tiny, vae, data, run.batch))
    trainer.run(run.notify)
    trainer.averaged()
    with torch.no_grad():
        latents = data.latents(torch.arange(min(256, len(data.images)), device=run.device))
        error = tiny.decode(latents * vae.config.scaling_factor).sample.clamp(-1, 1) - vae.decode(latents).sample.clamp(-1, 1)
    run.notify(f"PSNR {10 * np.log10(4 / error.square().mean().item()):.2f} dB against the autoencoder")
    save(tiny, run.work / "tiny-vae")


def train_text_to_image(run: Run) -> None:
    """Train UNet and text encoder together, the latter for the first part only.

    Leaves text_encoder/ when that stands still, and a pipeline at the end.
    """
    model = diffusion(run, "text-to-image", make_text_encoder())
    data = load_data(run.work / "data.npz", run.device).with_latents(model.vae)
    groups = [Group(modules=[model.text], until=TEXT_UNTIL), Group(modules=[model.unet])]
    trainer = run.trainer("text-to-image", groups, losses.text_to_image_loss(model, data, run.batch))

    def leave_text_encoder(fraction: float) -> None:
        folder = run.work / "text_encoder"
        if fraction > TEXT_UNTIL + 0.04 and not folder.exists():
            former = trainer.averaged()
            save(model.text, folder)
            trainer.restore(former)

    trainer.run(run.notify, leave_text_encoder)
    leave_text_encoder(1.0)
    trainer.averaged()
    save(model.unet, run.work / "text-to-image" / "unet")
    save_pipeline(run.work, "text-to-image")


def train_conditional(run: Run, task: str) -> None:
    """Train the UNet of inpainting, depth-to-image or upscaling; text encoder and autoencoder stay as they are."""
    model = diffusion(run, task, CLIPTextModel.from_pretrained(run.work / "text_encoder").float())
    data = load_data(run.work / ("data-256.npz" if task == "upscaling" else "data.npz"), run.device)
    if task == "upscaling":
        loss = losses.upscaling_loss(model, data, run.batch, crop=128)
    else:
        make_loss = {"inpainting": losses.inpainting_loss, "depth-to-image": losses.depth_loss}[task]
        loss = make_loss(model, data.with_latents(model.vae), run.batch)
    trainer = run.trainer(task, [Group(modules=[model.unet])], loss)
    trainer.run(run.notify)
    trainer.averaged()
    save(model.unet, run.work / task / "unet")
    save_pipeline(run.work, task)


def diffusion(run: Run, task: str, text: CLIPTextModel) -> losses.Diffusion:
    """Put the networks of a task on the device."""
    torch.manual_seed(run.plan.seed)
    vae = AutoencoderKL.from_pretrained(vae_folder(run.work, 4 if task == "upscaling" else 8))
    vae = vae.float().to(run.device).eval().requires_grad_(False)
    betas = UPSCALER_BETAS if task == "upscaling" else SD2_BETAS
    trains = task == "text-to-image"
    return losses.Diffusion(
        unet=make_unet(task, vae.config.scaling_factor).to(run.device),
        text=text.to(run.device).requires_grad_(trains),
        vae=vae,
        alpha_bar=losses.alpha_bar(betas, run.device),
        scaling=vae.config.scaling_factor,
        text_trains=trains,
    )


def load_data(path: Path, device: torch.device) -> Data:
    """Put a training set on the device."""
    from tokenizers import Tokenizer

    archive = np.load(path)
    tensor: Callable[[Any], torch.Tensor] = lambda array: torch.from_numpy(array).to(device)  # noqa: E731
    return Data(
        images=tensor(archive["images"]).permute(0, 3, 1, 2).contiguous(),
        depth=tensor(archive["depth"]),
        boxes=tensor(archive["boxes"]).long(),
        ids=tensor(archive["ids"]),
        empty=tensor(np.array(Tokenizer.from_file(str(TOKENIZER)).encode("").ids, np.int32)),
    )


def vae_folder(work: Path, factor: int) -> Path:
    """Where the autoencoder of a downsampling factor lies."""
    return work / ("vae" if factor == 8 else "vae-x4")


def save(network: Any, folder: Path) -> None:
    """Write a float16 copy of a network in diffusers' layout; the folder appears whole and replaces an older one."""
    partial = folder.with_name(folder.name + ".partial")
    copy = type(network).from_config(network.config) if not isinstance(network, CLIPTextModel) else CLIPTextModel(network.config)
    copy.load_state_dict({name: value.detach().cpu() for name, value in network.state_dict().items()})
    copy.half().save_pretrained(partial)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


STAGES: dict[str, Callable[[Run], None]] = {
    "vae": lambda run: train_vae(run, 8),
    "vae-x4": lambda run: train_vae(run, 4),
    "tiny-vae": train_tiny_vae,
    "text-to-image": train_text_to_image,
    "inpainting": lambda run: train_conditional(run, "inpainting"),
    "depth-to-image": lambda run: train_conditional(run, "depth-to-image"),
    "upscaling": lambda run: train_conditional(run, "upscaling"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, `sys.argv` when none is given, and run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["data", *STAGES])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--eager", action="store_true", help="no CUDA graph, for a GPU or a library where capturing fails")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--count", type=int, default=24_000, help="data: scenes to render")
    parser.add_argument("--size", type=int, default=64, help="data: pixels; 256 for vae-x4 and upscaling")
    args = parser.parse_args(arguments)
    args.work = args.work.resolve()  # the pipeline folder links into it
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "data":
        name = "data.npz" if args.size == 64 else f"data-{args.size}.npz"
        write_dataset(args.work / name, DatasetOptions(count=args.count, size=args.size, seed=args.size), os.cpu_count() or 1)
        return
    if bool(args.steps) == bool(args.minutes):
        parser.error("give either --steps or --minutes")
    torch.manual_seed(0)  # before any network is made
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    deadline = time.time() + 60 * args.minutes if args.minutes else 0.0
    run = Run(
        work=args.work,
        plan=Plan(steps=args.steps, deadline=deadline, learning_rate=args.learning_rate, capture=not args.eager),
        batch=args.batch,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        notify=lambda line: print(f"{args.stage}: {line}", file=sys.stderr, flush=True),
    )
    STAGES[args.stage](run)


if __name__ == "__main__":
    main()
