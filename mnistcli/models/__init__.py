"""One architecture a file. Nothing here imports the rest of the package."""
