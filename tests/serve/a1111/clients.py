"""Requests as programs that speak to the web UI send them, written from what their sources send (read in November 2026).

- Open WebUI, backend/open_webui/routers/images.py: `image_generations`, `set_image_model`
- SillyTavern, src/endpoints/stable-diffusion.js and public/scripts/extensions/stable-diffusion/index.js: `generateAutoImage`, `set-model`
- webuiapi (mix1009/sdwebuiapi), webuiapi/webuiapi.py: `txt2img`, `img2img`, `extra_single_image`
- Cyanic SD (DrCyanide/cyanic-sd-krita), cyanic/sdapi_v1.py: `init_api`, `cleanup_data`

Steps and sizes are those of toyworld, so that tests are short.
"""

from __future__ import annotations

from typing import Any

PROMPT = "a large red sphere on the left, gray floor"

OPEN_WEBUI = {"prompt": PROMPT, "batch_size": 2, "width": 64, "height": 64, "steps": 4, "negative_prompt": "blue"}

SILLY_TAVERN = {
    "url": "http://127.0.0.1:7860",
    "auth": "",
    "prompt": PROMPT,
    "negative_prompt": "blue",
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
    "steps": 4,
    "cfg_scale": 4,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "seed": 7,
    "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}

_WEBUIAPI_BOTH: dict[str, Any] = {
    "prompt": PROMPT,
    "styles": [],
    "seed": 7,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 4,
    "cfg_scale": 7.0,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}

WEBUIAPI_TXT2IMG = _WEBUIAPI_BOTH | {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
}

WEBUIAPI_IMG2IMG = _WEBUIAPI_BOTH | {
    "init_images": [],
    "resize_mode": 0,
    "denoising_strength": 0.75,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1,
    "image_cfg_scale": 1.5,
    "include_init_images": False,
    "steps": 8,
}

WEBUIAPI_EXTRAS = {
    "resize_mode": 0,
    "show_extras_results": True,
    "gfpgan_visibility": 0,
    "codeformer_visibility": 0,
    "codeformer_weight": 0,
    "upscaling_resize": 2,
    "upscaling_resize_w": 512,
    "upscaling_resize_h": 512,
    "upscaling_crop": True,
    "upscaler_1": "toyworld-upscaler",
    "upscaler_2": "None",
    "extras_upscaler_2_visibility": 0,
    "upscale_first": False,
}

CYANIC_PROBES = (
    "/queue/status",
    "/sdapi/v1/sd-models",
    "/sdapi/v1/sd-vae",
    "/sdapi/v1/samplers",
    "/sdapi/v1/upscalers",
    "/sdapi/v1/face-restorers",
    "/sdapi/v1/prompt-styles",
    "/sdapi/v1/scripts",
    "/sdapi/v1/loras",
    "/sdapi/v1/embeddings",
    "/sdapi/v1/hypernetworks",
    "/sdapi/v1/options",
)

CYANIC_IMG2IMG = {
    "prompt": PROMPT,
    "negative_prompt": "",
    "sampler_name": "Euler a",
    "steps": 8,
    "cfg_scale": 4,
    "denoising_strength": 0.75,
    "seed": -1,
    "batch_size": 1,
    "n_iter": 1,
    "resize_mode": 1,
    "width": 64,
    "height": 64,
    "mask_blur": 2,
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 32,
    "inpainting_mask_invert": 0,
    "include_init_images": False,
    "override_settings": {"sd_vae": "Automatic", "img2img_color_correction": True},
    "override_settings_restore_afterwards": False,
    "save_images": False,
}
