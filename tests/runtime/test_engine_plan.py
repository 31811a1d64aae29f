from dataclasses import replace

import pytest

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.engine.spec import Guidance, PixelForm, StepForm, TextForm
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import PlanOptions, choose_guidance, keeps_part, plan_component, plan_engines, prompt_length
from sd2rt.runtime.models import EMBEDDED, find_model

TRT = PlanOptions(target="tensorrt", smallest=(64, 64), usual=(64, 72), largest=(64, 128), batch=(1, 2, 4))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(find_model(EMBEDDED))


def test_unet_takes_all_rows_and_latent_sizes(bundle: Bundle) -> None:
    options = plan_component(bundle, "unet", TRT)
    assert options.form == StepForm(guidance=Guidance.GUIDED)
    assert options.axes == {"images": (1, 2, 4), "batch": (2, 4, 8), "height": (8, 8, 8), "width": (8, 9, 16), "sequence": (77, 77, 77)}


def test_a_step_that_keeps_a_part_of_the_picture_takes_the_same_sizes(bundle: Bundle) -> None:
    free, keeping = (plan_component(bundle, "unet", replace(TRT, kept=kept)) for kept in (False, True))
    assert keeping == replace(free, form=StepForm(guidance=Guidance.GUIDED, kept=True))
    assert plan_component(bundle, "vae_decoder", replace(TRT, kept=True)) == plan_component(bundle, "vae_decoder", TRT)


def test_a_tiny_decoder_takes_latents_as_they_are(bundle: Bundle) -> None:
    both = replace(bundle, components={**bundle.components, "tiny_vae_decoder": bundle.component("vae_decoder")})
    vae, tiny = (plan_component(both, name, TRT) for name in ("vae_decoder", "tiny_vae_decoder"))
    assert vae.form == PixelForm(scaling_factor=bundle.scaling_factor)
    assert tiny == replace(vae, form=PixelForm(scaling_factor=1.0))


@pytest.mark.parametrize(
    ("task", "model", "keeps"),
    [
        ("inpainting", "text-to-image", True),
        ("inpainting", "inpainting", False),
        ("image-to-image", "text-to-image", False),
        ("depth-to-image", "depth-to-image", False),
    ],
)
def test_a_part_is_put_back_where_the_unet_sees_no_mask(task: str, model: str, keeps: bool, bundle: Bundle) -> None:
    assert keeps_part(task, replace(bundle, task=model)) is keeps


def test_without_guidance_there_is_one_row_per_image(bundle: Bundle) -> None:
    plain = replace(TRT, guidance=Guidance.PLAIN)
    assert plan_component(bundle, "unet", plain).axes["batch"] == (1, 2, 4)
    assert plan_component(bundle, "text_encoder", plain).axes == {"batch": (1, 2, 4)}


def test_longer_prompts_take_a_longer_context_and_more_rows_of_the_text_encoder(bundle: Bundle) -> None:
    longer = replace(TRT, chunks=(1, 2, 3))
    assert plan_component(bundle, "unet", longer).axes == {**plan_component(bundle, "unet", TRT).axes, "sequence": (77, 154, 231)}
    assert plan_component(bundle, "text_encoder", longer).axes == {"batch": (2, 8, 24)}
    assert plan_component(bundle, "text_encoder", replace(longer, merged=False)).axes == {"batch": (1, 8, 24)}
    assert plan_component(bundle, "vae_decoder", longer) == plan_component(bundle, "vae_decoder", TRT)


def test_clip_skip_is_a_form_of_the_text_encoder(bundle: Bundle) -> None:
    whole, cut = (plan_component(bundle, "text_encoder", replace(TRT, clip_skip=count)) for count in (1, 3))
    assert (whole.form, cut) == (None, replace(whole, form=TextForm(skip=2)))
    assert plan_component(bundle, "unet", replace(TRT, clip_skip=3)) == plan_component(bundle, "unet", TRT)


def test_a_unet_beside_a_loop_on_the_host_may_take_images_with_and_without_guidance(bundle: Bundle) -> None:
    mixed = replace(TRT, batch=(2, 2, 2), merged=False, plain_too=True)
    assert plan_component(bundle, "unet", mixed).axes["batch"] == (2, 4, 4)
    assert plan_component(bundle, "unet", replace(mixed, plain_too=False)).axes["batch"] == (4, 4, 4)


def test_autoencoder_takes_one_picture_at_a_time(bundle: Bundle) -> None:
    decoder = plan_component(bundle, "vae_decoder", TRT)
    assert decoder.form == PixelForm(scaling_factor=bundle.scaling_factor)
    assert decoder.axes == {"images": (1, 1, 1), "height": (8, 8, 8), "width": (8, 9, 16)}
    encoder = plan_component(bundle, "vae_encoder", TRT)
    assert encoder.form is None
    assert encoder.axes == {"batch": (1, 1, 1), "image_height": (64, 64, 64), "image_width": (64, 72, 128)}


def test_openvinos_engines_are_for_any_size_and_tried_at_the_models_own(bundle: Bundle) -> None:
    here = replace(TRT, target="openvino", precision="f32", guidance=Guidance.PLAIN)
    options = plan_component(bundle, "unet", here)
    assert options.axes == {"batch": (2, 2, 2), "height": (8, 8, 8), "width": (8, 8, 8), "sequence": (77, 77, 77)}
    assert (options.form, options.precision) == (None, "f32")
    assert plan_component(bundle, "text_encoder", here).axes == {"batch": (2, 2, 2)}


def test_engines_on_the_host_take_any_size(bundle: Bundle) -> None:
    assert all(not options.axes and options.form is None for _, options in plan_engines(bundle, replace(TRT, target="cpu")))
    assert all(options.axes for _, options in plan_engines(bundle, replace(TRT, target="cuda")))


def test_sizes_must_be_in_order_and_multiples_of_the_latent_factor(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match="width: got 128, 72, 64; expected smallest, usual and largest"):
        replace(TRT, smallest=(64, 128), largest=(64, 64))
    with pytest.raises(InvalidArgument, match="height: got 60 pixels; expected a multiple of 8"):
        plan_engines(bundle, replace(TRT, smallest=(60, 64)))
    with pytest.raises(InvalidArgument, match="height: got 72 pixels; expected a multiple of 64"):
        plan_engines(replace(bundle, traced_multiple=64), replace(TRT, smallest=(72, 64), usual=(128, 128), largest=(128, 128)))


@pytest.mark.parametrize(
    ("scale", "rescale", "guidance"),
    [(1.0, 0.7, Guidance.PLAIN), (0.0, 0.0, Guidance.PLAIN), (7.5, 0.0, Guidance.GUIDED), (7.5, 0.7, Guidance.RESCALED)],
)
def test_guidance_follows_the_job(scale: float, rescale: float, guidance: Guidance) -> None:
    assert choose_guidance(scale, rescale) is guidance


def test_text_encoder_of_no_fixed_length_is_refused(bundle: Bundle) -> None:
    assert prompt_length(bundle) == 77
    text = bundle.components["text_encoder"]
    loose = replace(text, inputs=(replace(text.inputs[0], shape=("batch", "sequence")),))
    with pytest.raises(BundleError, match="no input input_ids of a fixed length"):
        prompt_length(replace(bundle, components={**bundle.components, "text_encoder": loose}))
