"""Pages: login, own account, people and keys, audit log."""
