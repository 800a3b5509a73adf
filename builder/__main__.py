"""`python -m builder`: the command line without its entry-point script."""

from builder.cli.main import main

if __name__ == "__main__":
    main()
