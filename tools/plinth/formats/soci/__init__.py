"""SOCI (AWS's soci-snapshotter): what lets containerd read a layer before it is there."""
