"""Face analysis, offline only: landmarks, head pose, mattes, crops, flow, SMPL-X, FLAME. Serving never imports it."""
