"""Which queues a message goes to: the exchange types, one small file each, and the router that follows their
bindings."""
