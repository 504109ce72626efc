"""From a URL to a connection that lasts: servers, clusters, Sentinels, scripts, blocking reads."""
