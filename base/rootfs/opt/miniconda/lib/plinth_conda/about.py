"""The command `conda` of plinth's images: conda's verbs, done by pip.

It is not conda. It reads what conda reads, installs from the package index that pip's settings
name, and refuses by name, with exit code 98, what no index has. Standard library, Python 3.7.
"""

VERSION = "4.12.0+plinth"
"""What `conda --version` prints: the conda whose command line this follows, and whose it is."""
