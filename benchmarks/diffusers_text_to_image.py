"""The contender: paint one picture with diffusers, written as its users write it. Run in a fresh process by `cold_start`.

`python diffusers_text_to_image.py FOLDER PROMPT STEPS GUIDANCE SEED OUT.png`, with the scheduler that FOLDER names.
"""

import sys

import torch
from diffusers import StableDiffusionPipeline


def main() -> None:
    """Load the folder in float32 on the CPU, paint, save."""
    folder, prompt, steps, guidance, seed, out = sys.argv[1:]
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(
        prompt, num_inference_steps=int(steps), guidance_scale=float(guidance), generator=torch.Generator().manual_seed(int(seed))
    ).images[0]
    picture.save(out)


main()
