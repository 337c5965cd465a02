"""oautom beside its peers: each in an environment of its own, the same graphs, in turns."""
