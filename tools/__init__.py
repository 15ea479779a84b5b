"""What `make` runs: the installation, a real ComfyUI server, the demo. Not part of the pack that ComfyUI loads."""
