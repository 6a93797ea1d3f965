"""Text-to-image: prompts and rewards for any diffusers text-to-image pipeline."""
