"""The catalogue as a static site: a page of every image, made from what is built and attached."""
