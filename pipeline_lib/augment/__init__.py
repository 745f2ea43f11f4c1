"""Batched augmentation: uint8 images in, uint8 images out, on their device."""
