"""`python -m oautom`: the command line."""

from _oautom_cli import main

if __name__ == "__main__":
    main()
