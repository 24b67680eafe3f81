"""What the server answers to programs: judging pictures over HTTP, readiness, metrics, the OpenAPI document."""
