"""What goes between the coordinator and a child: packets, shared memory, printed lines."""
