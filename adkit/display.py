"""A picture beside every live view: what GitHub, nbconvert and a notebook without a kernel show."""

from __future__ import annotations

import base64


def with_picture(bundle, png: bytes, text: str) -> dict:
    """A widget's mimebundle with a PNG and a line of text for those who cannot run it."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return {**data, "image/png": base64.b64encode(png).decode(), "text/plain": text}
