"""First-person pictures of a round room, drawn from poses: 12 bytes stored, thousands shown.

Each column of a picture is one ray; it meets the circular wall in closed form, and the distance
gives the rows. Landmarks on the wall tell places apart. Nothing else is visible in the room. The
same pose gives the same picture.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adkit.tables import in_parallel

SMALLEST, LARGEST = (8, 8), (72, 96)  # (height, width); the paper's Watermaze has the largest
DIM = 0.4  # light falls as 1 / (1 + DIM * distance)
EYE, WALL = 0.25, 0.6  # heights above the floor, in radii of the room
ASPECT = np.tan(np.deg2rad(45))  # half a picture's width at distance 1: it shows 90 degrees
ALONE = 64  # pictures that are drawn sooner than threads would start

# middle and width in degrees, counter-clockwise from +x; colour; pattern; no two are alike
LANDMARKS = (
    (0, 30, (213, 94, 0), "solid"),
    (50, 22, (0, 114, 178), "bands"),
    (88, 26, (240, 228, 66), "top"),
    (140, 34, (0, 158, 115), "stripes"),
    (183, 20, (204, 121, 167), "solid"),
    (222, 30, (250, 250, 250), "bands"),
    (272, 24, (40, 40, 40), "bottom"),
    (318, 28, (86, 180, 233), "stripes"),
)
TALL, AROUND = 8, 1024  # texels of the wall: from top to bottom, and counter-clockwise


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) as integers; raise ValueError for sizes that cannot be drawn."""
    whole = np.ndim(size) == 1 and len(size) == 2 and all(int(n) == n for n in size)
    if not whole or (np.less(size, SMALLEST) | np.greater(size, LARGEST)).any():
        raise ValueError(
            f"a picture must be (height, width) from {SMALLEST} to {LARGEST}, got {size}; try "
            "(24, 32), six times as fast as (72, 96)"
        )
    return int(size[0]), int(size[1])


def render(pose: np.ndarray, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Draw pictures (..., H, W, 3) uint8 from poses (..., 3).

    A pose is x, y in radii of the room, and the heading in radians, counter-clockwise from +x.
    About 300,000 pictures/s per core at (24, 32).
    """
    (height, width), pose = check_size(size), np.asarray(pose, np.float32)
    flat = np.ascontiguousarray(pose.reshape(-1, 3))
    if not (np.isfinite(flat).all() and (np.square(flat[:, :2]).sum(1) < 1).all()):
        raise ValueError("a pose must lie in the room: x * x + y * y below 1")
    out = np.empty((len(flat), height * width * 3), np.uint8)
    args = flat, TEXTURE, _background(height, width), _rays(width), out
    if len(flat) <= ALONE:
        draw(0, len(flat), *args)
    else:
        in_parallel(draw, len(flat), *args)
    return out.reshape(*pose.shape[:-1], height, width, 3)


# without a check for division by 0, columns go through the vector unit
@njit(cache=True, nogil=True, error_model="numpy")
def draw(begin, end, pose, texture, background, rays, out):
    """Draw the pictures of poses (N, 3) float32 from `begin` to `end` into out (N, H * W * 3)."""
    around, tall, width = texture.shape[0], texture.shape[1], rays.shape[1]
    height, one, half = background.shape[0] // (3 * width), np.float32(1), np.float32(0.5)
    middle, focal = half * np.float32(height - 1), half * np.float32(width / ASPECT)
    where = np.empty(width, np.int32)
    light, top = np.empty(width, np.float32), np.empty(width, np.float32)
    bottom = np.empty(width, np.float32)
    for n in range(begin, end):
        x, y = pose[n, 0], pose[n, 1]
        c, s = np.float32(np.cos(pose[n, 2])), np.float32(np.sin(pose[n, 2]))
        inside = one - x * x - y * y
        for j in range(width):
            along, aside = rays[0, j], rays[1, j]
            dx, dy = c * along - s * aside, s * along + c * aside
            b = x * dx + y * dy
            far = np.sqrt(b * b + inside) - b  # the wall: |(x, y) + far (dx, dy)| = 1
            x_hit, y_hit = x + far * dx, y + far * dy
            quarter = x_hit / (abs(x_hit) + abs(y_hit))  # replaces an arc tangent: see `_angle`
            turned = one - quarter if y_hit >= 0 else np.float32(3) + quarter
            where[j] = min(np.int32(turned * np.float32(around / 4)), around - 1)
            light[j] = one / (one + np.float32(DIM) * far)
            scale = focal / (far * along)  # rows per radius, at the wall
            top[j] = middle - scale * np.float32(WALL - EYE)
            bottom[j] = middle + scale * np.float32(EYE)
        picture = out[n]
        picture[:] = background
        for j in range(width):
            i, texel_rows = max(0, int(np.ceil(top[j]))), (bottom[j] - top[j]) / np.float32(tall)
            at = np.uint64(3 * (i * width + j))
            for v in range(tall):
                end_row = min(height, int(np.ceil(top[j] + texel_rows * np.float32(v + 1))))
                if end_row > i:
                    texel, bright = texture[where[j], v], light[j]
                    red, green = np.uint8(texel[0] * bright), np.uint8(texel[1] * bright)
                    blue = np.uint8(texel[2] * bright)
                    for _ in range(i, end_row):
                        picture[at], picture[at + np.uint64(1)] = red, green
                        picture[at + np.uint64(2)] = blue
                        at += np.uint64(3 * width)
                    i = end_row


def _rays(width: int) -> np.ndarray:
    """Return (2, W) float32: each column's direction as a unit vector (ahead, to the left)."""
    left = ASPECT * (1 - (2 * np.arange(width) + 1) / width)
    return (np.stack([np.ones(width), left]) / np.hypot(1, left)).astype(np.float32)


def _background(height: int, width: int) -> np.ndarray:
    """Return (H * W * 3,) uint8: sky above the horizon, floor below it, darker with distance."""
    below = np.arange(height) + 0.5 - height / 2  # at the middle of each row
    distance = 0.5 * width / ASPECT / np.maximum(np.abs(below), 0.5)
    sky, floor = np.array([150, 190, 230]), np.array([150, 120, 90])
    light = 1 / (1 + DIM * np.where(below > 0, EYE, WALL - EYE) * distance)
    rows = (np.where(below[:, None] > 0, floor, sky) * light[:, None]).astype(np.uint8)
    return rows.repeat(width, 0).ravel()


def _angle(turned: np.ndarray) -> np.ndarray:
    """Return the angle in [0, 2 pi) of points (x, y).

    `turned` is 1 - q where y >= 0, else 3 + q, with q = x / (|x| + |y|).
    """
    x = np.where(turned < 2, 1 - turned, turned - 3)
    return np.arctan2(np.where(turned < 2, 1, -1) * (1 - np.abs(x)), x) % (2 * np.pi)


def _texture() -> np.ndarray:
    """Return (AROUND, TALL, 3) float32: the wall unrolled, with its landmarks."""
    wall = np.full((AROUND, TALL, 3), 165, np.float32)
    wall[:, 0] = 120
    angle = np.rad2deg(_angle((np.arange(AROUND) + 0.5) * (4 / AROUND)))
    for middle, width, colour, pattern in LANDMARKS:
        off = (angle - middle + 180) % 360 - 180
        where = np.abs(off) <= width / 2
        if pattern == "stripes":
            where &= np.round(np.abs(off) / (width / 5)) % 2 == 0  # three stripes
        rows = {"bands": (1, 2, 5, 6), "top": (0, 1, 2, 3), "bottom": (4, 5, 6, 7)}.get(
            pattern, range(TALL)
        )
        wall[np.ix_(where, rows)] = colour
    return wall


TEXTURE = _texture()
