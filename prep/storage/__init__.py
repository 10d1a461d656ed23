"""Files on the disk: written atomically, locked, hashed, and told of by manifests."""
