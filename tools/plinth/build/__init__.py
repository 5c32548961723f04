"""One module for each kind of layer, and the image they make."""
