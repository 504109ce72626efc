"""Jobs, options, outcomes and rules as data: pure, without I/O."""
