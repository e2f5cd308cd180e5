"""Draw the README's picture: notebook 04's attention view above notebook 03's learning curves."""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

HERE = Path(__file__).resolve().parent
COVER = HERE.parent / "data" / "pictures" / "cover.png"


def picture(name: str) -> Image.Image:
    """Return the first picture that a notebook is committed with."""
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    outputs = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ())]
    shown = next(data[kind] for data in outputs for kind in data if kind.startswith("image/"))
    return Image.open(io.BytesIO(base64.b64decode(shown))).convert("RGB")


def cover() -> Image.Image:
    """Return both pictures, one above the other, on white."""
    above, below = picture("04_attention_over_episodes"), picture("03_in_context_rollouts")
    size = max(above.width, below.width), above.height + 24 + below.height
    whole = Image.new("RGB", size, "white")
    whole.paste(above, ((size[0] - above.width) // 2, 0))
    whole.paste(below, ((size[0] - below.width) // 2, above.height + 24))
    return whole


if __name__ == "__main__":
    cover().save(COVER, optimize=True)
    print(f"Wrote {COVER.relative_to(HERE.parent)}.")
