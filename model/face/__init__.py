"""Face analysis, offline only: landmarks of video frames. Serving never imports this package."""
