import pytest

from sd2rt.export.lora_keys import LoraKey, flat_name, parse_key

BLOCK = "down_blocks.0.attentions.1.transformer_blocks.0"
FLAT = BLOCK.replace(".", "_")
TEXT = "encoder.layers.3"


@pytest.mark.parametrize(
    ("key", "component", "layer", "part"),
    [
        (f"lora_unet_{FLAT}_attn1_to_q.lora_down.weight", "unet", f"{FLAT}_attn1_to_q", "down"),
        ("lora_unet_mid_block_resnets_0_conv1.lora_mid.weight", "unet", "mid_block_resnets_0_conv1", "mid"),
        ("lora_unet_conv_in.alpha", "unet", "conv_in", "alpha"),
        ("lora_te_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight", "text_encoder", "encoder_layers_3_self_attn_q_proj", "up"),
        (f"unet.{BLOCK}.attn2.to_out.0.lora_A.weight", "unet", f"{FLAT}_attn2_to_out_0", "down"),
        (f"unet.{BLOCK}.ff.net.0.proj.lora_B.weight", "unet", f"{FLAT}_ff_net_0_proj", "up"),
        (f"unet.{BLOCK}.attn1.to_k.lora.down.weight", "unet", f"{FLAT}_attn1_to_k", "down"),
        (f"unet.{BLOCK}.attn1.to_k.alpha", "unet", f"{FLAT}_attn1_to_k", "alpha"),
        (f"{BLOCK}.attn1.processor.to_v_lora.up.weight", "unet", f"{FLAT}_attn1_to_v", "up"),
        (f"unet.{BLOCK}.attn1.processor.to_out_lora.down.weight", "unet", f"{FLAT}_attn1_to_out_0", "down"),
        (f"text_encoder.text_model.{TEXT}.self_attn.v_proj.lora_A.weight", "text_encoder", "encoder_layers_3_self_attn_v_proj", "down"),
        (f"text_encoder.{TEXT}.mlp.fc1.lora_B.weight", "text_encoder", "encoder_layers_3_mlp_fc1", "up"),
        (f"text_encoder.{TEXT}.mlp.fc1.lora_linear_layer.up.weight", "text_encoder", "encoder_layers_3_mlp_fc1", "up"),
        (f"text_encoder.{TEXT}.self_attn.to_out_lora.up.weight", "text_encoder", "encoder_layers_3_self_attn_out_proj", "up"),
    ],
)
def test_every_style_names_component_layer_and_part(key: str, component: str, layer: str, part: str) -> None:
    assert parse_key(key) == LoraKey(component=component, layer=layer, part=part)


@pytest.mark.parametrize(
    "key",
    [
        f"lora_unet_{FLAT}_attn1_to_q.hada_w1_a",
        f"lora_unet_{FLAT}_attn1_to_q.lokr_w1",
        f"lora_unet_{FLAT}_attn1_to_q.dora_scale",
        "lora_te2_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
        f"unet.{BLOCK}.attn1.to_q.lora_magnitude_vector",
        f"unet.{BLOCK}.attn1.to_q.lora_B.bias",
        f"unet.{BLOCK}.attn1.to_q.weight",
        "emb_params",
    ],
)
def test_other_names_are_strangers(key: str) -> None:
    assert parse_key(key) is None


def test_names_of_a_layer_flatten_alike() -> None:
    assert flat_name("text_encoder", f"text_model.{TEXT}.mlp.fc1") == flat_name("text_encoder", f"{TEXT}.mlp.fc1")
    assert flat_name("unet", f"{BLOCK}.attn1.to_q") == f"{FLAT}_attn1_to_q"
