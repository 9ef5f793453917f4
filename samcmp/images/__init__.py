"""From bytes to a batch of images: pixels, normalising, augmentation from a seeded stream."""
