"""The pages of login, one's own account, people and keys, and the audit log."""
