"""What a toyworld caption can name, and what each word looks like. Knows neither captions nor scenes."""

# Linear colours in [0, 1] before lighting.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.3, 0.85),
    "yellow": (0.95, 0.8, 0.1),
    "purple": (0.55, 0.2, 0.7),
    "cyan": (0.1, 0.75, 0.8),
    "orange": (0.95, 0.5, 0.1),
    "white": (0.93, 0.93, 0.93),
}
FLOORS: dict[str, tuple[float, float, float]] = {
    "gray": (0.5, 0.5, 0.52),
    "brown": (0.45, 0.3, 0.18),
    "pink": (0.9, 0.6, 0.68),
    "black": (0.1, 0.1, 0.12),
}
SHAPES = ("sphere", "cube", "cylinder", "cone")
# Radius in world units; a scene varies it by 5 %.
SIZES: dict[str, float] = {"small": 0.62, "large": 1.0}
# "" is the middle, which a caption does not name.
PLACES = ("left", "", "right")
