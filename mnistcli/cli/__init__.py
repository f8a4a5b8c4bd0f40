"""The Typer app: one file per command. A command parses, calls and shows."""
