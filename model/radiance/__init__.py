"""The avatar's picture: a tri-plane radiance field with a warp grid, before a still torso layer."""
