"""The service: one model answers the feed, the search box and the map, and knows what its users did a moment ago."""
