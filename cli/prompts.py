"""Prompts of many kinds, to see what a text-to-image model's layers read: written for this, from no data set."""

PROMPTS = (
    "a lighthouse on a cliff at dusk, waves, oil painting",
    "portrait photo of an old fisherman in a yellow raincoat",
    "a bowl of ripe cherries on a wooden table, soft window light",
    "isometric drawing of a tiny workshop full of tools",
    "a red fox asleep in fresh snow, telephoto",
    "street market at night in the rain, neon signs, crowd",
    "watercolour of a mountain valley with a river and pine trees",
    "a brass astrolabe on black velvet, studio photograph",
    "children's book illustration of a bear riding a bicycle",
    "macro photograph of a dragonfly on a blade of grass",
    "a spaceship over a desert planet, two suns, concept art",
    "charcoal sketch of a dancer in motion",
    "an old library with ladders and dust in the sunlight",
    "a plate of sushi, top view, white background",
    "a steam train crossing a stone viaduct, 1920s postcard",
)

COMPARED = "modern glass house in a birch forest, architectural photo"
"""Kept for the comparison: nothing is measured with it."""
