"""The contender: paint one picture with diffusers, written as its users write it. Run in a fresh process by `cold_start`.

`python diffusers_text_to_image.py FOLDER SCHEDULER PROMPT STEPS GUIDANCE SEED OUT.png`
"""

import sys

import diffusers
import torch


def main() -> None:
    """Load the folder in float32 on the CPU, paint, save."""
    folder, scheduler, prompt, steps, guidance, seed, out = sys.argv[1:]
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True, dtype=torch.float32)
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(int(seed))
    picture = pipe(prompt, num_inference_steps=int(steps), guidance_scale=float(guidance), generator=noise).images[0]
    picture.save(out)


main()
