"""Everything that is the same whatever the edge or the engine."""
