"""Tables -> dataset directory -> batches. It does not know what a loss is."""
