"""The key broker: it releases keys only to workers whose evidence passes the owner's policy."""
