"""Stand-ins for the services, spoken to by their real clients over HTTP, and their fixtures."""
