"""Networks that only score: images to the feature vectors that metrics compare."""
