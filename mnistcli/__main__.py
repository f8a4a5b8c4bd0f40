"""`python -m mnistcli` is `mnist`."""

from mnistcli.cli.app import main

if __name__ == "__main__":
    main()
