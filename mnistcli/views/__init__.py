"""What each command prints, and its --json. Only `views` and `cli` know Rich."""
