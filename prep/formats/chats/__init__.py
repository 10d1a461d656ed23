"""Conversations: their turns, the fields of a turn, calls of tools."""
