"""Ray marching of the avatar's radiance field."""
