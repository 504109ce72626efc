"""The queues of the admin have no table: what is kept is their permission."""
