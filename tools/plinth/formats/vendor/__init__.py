"""Archives of vendors that publish no packages: a makeself file or a tar, read as foreign input."""
