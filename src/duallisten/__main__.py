"""`python -m duallisten`."""

from duallisten.cli import main

if __name__ == "__main__":
    main()
