"""`python -m mnistcli` is `mnist`."""

from mnistcli.cli import main

if __name__ == "__main__":
    main()
