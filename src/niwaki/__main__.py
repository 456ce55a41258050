"""`python -m niwaki`: the command line."""

from niwaki.cli.main import main

if __name__ == "__main__":
    main()
