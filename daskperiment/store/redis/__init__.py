"""The store in a Redis server or a Redis Cluster."""
