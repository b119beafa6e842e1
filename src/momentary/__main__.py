"""`python -m momentary` is the command `momentary`."""

from momentary.cli import main

if __name__ == "__main__":
    main()
