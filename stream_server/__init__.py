"""The server and the command line. Front and media workers import neither torch nor OpenCV nor MediaPipe."""
