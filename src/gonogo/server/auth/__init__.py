"""Authentication: people, passwords, sessions, tokens, and the access check before every handler."""
