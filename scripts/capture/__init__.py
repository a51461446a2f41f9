"""Renders the capture that a default avatar is trained on: an invented head, filmed by Blender's Cycles.

`python -m scripts.capture --help`. Geometry and plans are NumPy alone; only `materials`, `scene` and `render` need
Blender (`bpy`). Length unit: ICT-FaceKit's, about 1 cm. World: +x the subject's left, +y up, +z out of the face.
"""
