"""Who may enter: people, passwords, sessions, tokens, and the guard before every handler."""
