"""toyworld: rendered scenes of coloured solids with exact captions, and the checker that judges pictures of them (numpy only)."""
