"""What an image is made of, as CycloneDX: made from locks and layers, and checked against them."""
