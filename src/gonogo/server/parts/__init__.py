"""Pictures of inspected parts, shared by several pages."""
